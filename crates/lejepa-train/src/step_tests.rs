//! Steps in parts and in groups.

use burn::tensor::GradientCheckpointingStrategy;
use lejepa_core::{Registry, View};
use lejepa_image as _;
use lejepa_nn as _;

use super::*;
use crate::Request;

#[test]
fn memory_and_parts_are_what_was_asked_for() {
    let registry = Registry::discover().unwrap();
    for (memory, strategy) in [
        ("full", GradientCheckpointingStrategy::Disabled),
        ("checkpoint", GradientCheckpointingStrategy::Balanced),
    ] {
        let words = format!("modality=image train.memory={memory} train.microbatches=3");
        let resolved = Request::parse(&words).resolve(&registry).unwrap();
        let learner = resolved.learner(&Device::flex()).unwrap();
        assert_eq!(learner.microbatches, 3);
        assert_eq!(learner.device.gradient_checkpointing_strategy(), Some(strategy));
        // The weights have to live on that device too, or operations would mix strategies.
        let shape = resolved.spec().shape();
        let numbers = vec![0.0; shape.iter().product()];
        let view = View::new(shape, numbers).unwrap();
        let embedded = learner.model.embed(&[vec![&view]], &learner.device);
        assert_eq!(embedded.unwrap().gradient_checkpointing_strategy(), Some(strategy));
    }
}

#[test]
fn running_statistics_move_once_a_step() {
    let registry = Registry::discover().unwrap();
    let after = |microbatches: usize| {
        let words = format!(
            "modality=image encoder.name=resnet encoder.width=4 projector.hidden=16 \
             objective.slices=16 train.microbatches={microbatches}"
        );
        let resolved = Request::parse(&words).resolve(&registry).unwrap();
        let source = resolved.open(lejepa_core::Source::Demo).unwrap();
        let order = crate::Order::new((0..100).collect(), 9, Seed(0));
        let batch = crate::make_batch(source.as_ref(), &order, 0, 0..9).unwrap();
        let learner = resolved.learner(&Device::flex()).unwrap();
        learner.pass(&batch, 0).unwrap();
        let all = flat::running_statistics(&learner.model).unwrap();
        all.try_into_vec_as::<f32>().unwrap()
    };
    let (whole, parts) = (after(1), after(3));
    assert_eq!(whole.len(), parts.len());
    // The first norm's mean, of four channels: the mean of the parts' means is that of the batch.
    for (a, b) in whole.iter().zip(&parts).take(4) {
        assert!((a - b).abs() <= 1e-4 * a.abs().max(1e-3), "{whole:?} {parts:?}");
    }
    assert!(whole.iter().take(4).any(|mean| mean.abs() > 1e-4), "{whole:?}");
}

/// All gradients, one after the other, in the order of the parameters.
fn flat(model: &Model, gradients: &GradientsParams) -> Vec<f64> {
    struct Read<'a>(&'a GradientsParams, Vec<f64>);
    impl burn::module::ModuleVisitor for Read<'_> {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            // Running statistics have none.
            let gradient = self.0.get::<D>(param.id);
            let values = gradient.map(|gradient| gradient.try_into_vec_as::<f32>().unwrap());
            self.1.extend(values.unwrap_or_default().into_iter().map(f64::from));
        }
    }
    let mut read = Read(gradients, Vec::new());
    model.visit(&mut read);
    read.1
}

#[test]
fn gradients_of_ranks_are_those_of_the_whole_batch() {
    let registry = Registry::discover().unwrap();
    for (encoder, microbatches) in [("vit", 1), ("convnet", 1), ("resnet", 1), ("vit", 2)] {
        let words = format!(
            "modality=image encoder.name={encoder} encoder.width=12 projector.hidden=16 \
             objective.slices=32 train.microbatches={microbatches}"
        );
        let resolved = Request::parse(&words).resolve(&registry).unwrap();
        let source = resolved.open(lejepa_core::Source::Demo).unwrap();
        let order = crate::Order::new((0..100).collect(), 11, Seed(0));
        let pass = |learner: &Learner, order: &crate::Order| {
            let batch = crate::make_batch(source.as_ref(), order, 0, order.own()).unwrap();
            let pass = learner.pass(&batch, 0).unwrap();
            let running = flat::running_statistics(&learner.model);
            let running = running.map(|r| r.try_into_vec_as::<f32>().unwrap());
            (flat(&learner.model, &pass.gradients), running.unwrap_or_default())
        };
        let learners: Vec<_> = (0..4).map(|_| resolved.learner(&Device::flex()).unwrap()).collect();
        let mut learners = learners.into_iter();
        let mut alone = learners.next().unwrap();
        alone.microbatches = 1;
        let (whole, norms) = pass(&alone, &order);
        // The same samples in another order: what sums in another order change.
        let mut views: Vec<_> = (0..11u64)
            .zip(order.samples(0))
            .map(|(place, sample)| {
                let mut rng = order.seed().rng(Purpose::Views, &[0, place, 0]);
                (sample, source.checked_views(sample, &[], &mut rng).unwrap())
            })
            .collect();
        views.reverse();
        let (samples, views) = views.into_iter().unzip();
        let reversed = Batch::new(source.spec().clone(), samples, views).unwrap();
        let reversed = alone.pass(&reversed, 0).unwrap();
        let reversed = flat(&alone.model, &reversed.gradients);
        let ranks = crate::Threads::group(3).into_iter().zip(learners);
        // Compared after all of them have ended: one that panics leaves the others waiting.
        let found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = ranks
                .map(|(rank, learner)| {
                    let order = order.clone().of_rank(rank.rank(), 3);
                    let learner = learner.in_group(Arc::new(rank));
                    let pass = &pass;
                    scope.spawn(move || pass(&learner, &order))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (mine, running) in found {
            let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
            assert_eq!([mine.len(), running.len()], [whole.len(), norms.len()]);
            let apart: Vec<f64> = mine.iter().zip(&whole).map(|(a, b)| a - b).collect();
            let error = length(&apart) / length(&whole);
            let apart: Vec<f64> = reversed.iter().zip(&whole).map(|(a, b)| a - b).collect();
            let rounding = length(&apart) / length(&whole);
            // More where the input of a ReLU rounds to the other side of 0.
            let most = 1e-5f64.max(2.0 * rounding);
            assert!(error < most, "{encoder}: {error}, by rounding alone {rounding}");
            assert!(rounding < 0.01, "{encoder}: {rounding}");
            let far = running.iter().zip(&norms).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-5, "{encoder}: running statistics are {far} apart");
        }
    }
}
