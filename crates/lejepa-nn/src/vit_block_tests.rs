use super::*;

/// A block composed of burn's own modules.
fn plain(block: &Block, x: Tensor<3>) -> Tensor<3> {
    use burn::nn::Gelu;
    use burn::tensor::activation::softmax;
    let [b, n, d] = x.dims();
    let (heads, depth) = (block.attention.heads, d / block.attention.heads);
    let qkv = block.attention.qkv.forward(block.norm1.forward(x.clone()));
    let qkv = qkv.reshape([b, n, 3, heads, depth]).permute([2, 0, 3, 1, 4]);
    let part = |i| qkv.clone().narrow(0, i, 1).reshape([b, heads, n, depth]);
    let (q, k, v) = (part(0) * (depth as f64).powf(-0.5), part(1), part(2));
    let attended = softmax(q.matmul(k.swap_dims(2, 3)), 3).matmul(v);
    let x = x + block.attention.out.forward(attended.swap_dims(1, 2).reshape([b, n, d]));
    let hidden = Gelu::new().forward(block.up.forward(block.norm2.forward(x.clone())));
    x + block.down.forward(hidden)
}

#[test]
fn a_block_is_the_composition_of_its_layers() {
    use burn::optim::GradientsParams;
    let device = Device::flex().autodiff();
    let of = |samples: usize, tokens: usize| Sequences { samples, tokens };
    let sequences = [of(5, 17), of(3, 6), of(1, 1)];
    let config = VitConfig { width: 24, depth: 1, heads: 2, ..Default::default() };
    device.seed(7);
    let block = &Block::new(&config, 0, &device);
    let rows = sequences.iter().map(|of| of.samples * of.tokens).sum();
    let noise = || Tensor::<2>::random([rows, 24], Distribution::Default, &device);
    let (x, weight) = (noise().require_grad(), noise());
    let run = |y: Tensor<2>| {
        let mut gradients = (y.clone() * weight.clone()).sum().backward();
        let dx = x.grad_remove(&mut gradients).unwrap().into_data();
        let gradients = GradientsParams::from_grads(gradients, block);
        assert_eq!(gradients.len(), 12);
        let mut all = vec![y.into_data(), dx];
        for layer in [&block.attention.qkv, &block.attention.out, &block.up, &block.down] {
            all.push(gradients.get::<2>(layer.weight.id).unwrap().into_data());
            all.push(gradients.get::<1>(layer.bias.as_ref().unwrap().id).unwrap().into_data());
        }
        for norm in [&block.norm1, &block.norm2] {
            all.push(gradients.get::<1>(norm.gamma.id).unwrap().into_data());
            all.push(gradients.get::<1>(norm.beta.as_ref().unwrap().id).unwrap().into_data());
        }
        all
    };
    let (rotations, masks) = (sequences.map(|_| None).to_vec(), sequences.map(|_| None).to_vec());
    let samples = Samples { sequences: sequences.to_vec(), rotations, masks };
    let parts = samples.split(x.clone()).into_iter().map(|x| Tokens::new(plain(block, x)));
    let want = run(Samples::concatenate(parts.collect()).0);
    for got in [
        run(block.forward(x.clone(), &samples)),
        run(block.composed(x.clone(), &samples, [None, None])),
    ] {
        for (value, want) in got.iter().zip(&want) {
            value.assert_approx_eq::<f32>(want, burn::tensor::Tolerance::rel_abs(1e-4, 1e-4));
        }
    }
}

#[test]
fn scores_depend_on_differences_of_angles() {
    let device = Device::flex();
    let noise = |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Default, &device);
    let (queries, keys) = (noise([2, 3, 5, 8]), noise([2, 3, 5, 8]));
    // Both values of a pair turn by the same angle.
    let half = Tensor::<3>::random([1, 5, 4], Distribution::Default, &device);
    let angles = Tensor::cat(vec![half.clone(), half], 2);
    let scores = |angles: Tensor<3>| {
        let rotation = Rotation::new(angles, 0);
        let keys = rotation.apply(keys.clone()).swap_dims(2, 3);
        rotation.apply(queries.clone()).matmul(keys).into_data()
    };
    let near = burn::tensor::Tolerance::rel_abs(1e-4, 1e-4);
    let turned = scores(angles.clone() + 0.7);
    turned.assert_approx_eq::<f32>(&scores(angles.clone()), near);
    let still = queries.clone().matmul(keys.clone().swap_dims(2, 3)).into_data();
    scores(angles.zeros_like()).assert_eq(&still, true);
    let turned = scores(angles);
    let far = turned.iter::<f32>().zip(still.iter::<f32>()).map(|(a, b)| (a - b).abs());
    assert!(far.fold(0.0, f32::max) > 0.01);
}

#[test]
fn gates_rotations_and_masks_have_gradients() {
    let device = Device::flex().autodiff();
    device.seed(11);
    let config = VitConfig { width: 8, heads: 2, mlp: FeedForward::Swiglu, ..Default::default() };
    let block = Block::new(&config, 0, &device);
    let angles = Tensor::<3>::random([1, 3, 4], Distribution::Default, &device);
    let input = Tensor::<3>::random([2, 3, 8], Distribution::Default, &device);
    let weight = Tensor::<2>::random([6, 8], Distribution::Default, &device);
    let loss = |x: Tensor<3>| {
        let rotation = Some(Rotation::new(angles.clone(), 0));
        let times = Tensor::<2>::from_floats([[0.0, 1.0, 1.0]], &device);
        let mask = Some(Mask::causal(times));
        let (x, samples) = Samples::concatenate(vec![Tokens { values: x, rotation, mask }]);
        (block.forward(x, &samples) * weight.clone()).sum()
    };
    let x = input.clone().require_grad();
    let gradient = x.grad(&loss(x.clone()).backward()).unwrap();
    let gradient = gradient.try_into_vec_as::<f32>().unwrap();
    let (step, values) = (1e-2f32, input.try_into_vec_as::<f32>().unwrap());
    for i in [0, 13, 29, 47] {
        let at = |by: f32| {
            let mut values = values.clone();
            values[i] += by;
            let x = Tensor::from_data(burn::tensor::TensorData::new(values, [2, 3, 8]), &device);
            loss(x).into_scalar::<f32>()
        };
        let slope = (at(step) - at(-step)) / (2.0 * step);
        assert!(
            (slope - gradient[i]).abs() < 2e-3 * (1.0 + slope.abs()),
            "{slope} {}",
            gradient[i]
        );
    }
}
