//! Encoders: any burn module that maps a batch of views to embeddings, and its type-erased form.

use burn::module::{Devices, Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Bool, Device, Int, Tensor};
use std::any::Any;
use std::fmt::Debug;

use crate::{Error, Result};

/// A backbone: embeds a batch of views.
///
/// `RANK` counts the batch axis: 4 for `[B, C, H, W]`, 3 for `[B, C, T]`.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use lejepa_core::Encoder;
///
/// /// A linear layer on the mean of each channel, so that views of any length fit.
/// #[derive(Module, Debug)]
/// struct Means {
///     linear: Linear,
/// }
///
/// impl Encoder<3> for Means {
///     fn encode(&self, views: Tensor<3>) -> Tensor<2> {
///         self.linear.forward(views.mean_dim(2).squeeze_dim::<2>(2))
///     }
///     fn dim(&self) -> usize {
///         4
///     }
/// }
///
/// let device = Device::flex();
/// let means = Means { linear: LinearConfig::new(2, 4).init(&device) };
/// let global = Tensor::<3>::ones([5, 2, 16], &device);
/// assert_eq!(means.encode(global.clone()).dims(), [5, means.dim()]);
/// let local = Tensor::<3>::ones([5, 2, 8], &device);
/// assert_eq!(means.encode(local.clone()).dims(), [5, 4]);
/// assert_eq!(means.encode_all(vec![global, local]).dims(), [10, 4]);
/// ```
pub trait Encoder<const RANK: usize>: Module + Sync + 'static {
    /// Embeds views of one shape.
    ///
    /// # Shapes
    /// `[B, C, ...grid] -> [B, dim]`. Global and local views have their own grids, so an encoder must
    /// take both.
    fn encode(&self, views: Tensor<RANK>) -> Tensor<2>;

    /// Embeds views of several shapes: the embeddings of [`Encoder::encode`], one after the other.
    /// There is at least one shape. An encoder that does better on all of them at once has a method of
    /// its own.
    fn encode_all(&self, views: Vec<Tensor<RANK>>) -> Tensor<2> {
        Tensor::cat(views.into_iter().map(|views| self.encode(views)).collect(), 0)
    }

    /// Width of the embedding.
    fn dim(&self) -> usize;
}

/// An [`Encoder`] of any type and rank, itself a burn [`Module`].
///
/// It visits, maps, saves and loads exactly the parameters of what is inside, so optimisers and
/// record stores work on it unchanged. This is the border where the trainer stops knowing types.
#[derive(Debug)]
pub struct BoxedEncoder(Box<dyn DynEncoder>);

impl BoxedEncoder {
    /// Boxes an encoder of views with `RANK - 1` axes.
    ///
    /// ```
    /// # use burn::module::Module;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn::tensor::{Device, Tensor};
    /// # use lejepa_core::{BoxedEncoder, Encoder};
    /// # #[derive(Module, Debug)]
    /// # struct Means {
    /// #     linear: Linear,
    /// # }
    /// # impl Encoder<3> for Means {
    /// #     fn encode(&self, views: Tensor<3>) -> Tensor<2> {
    /// #         self.linear.forward(views.mean_dim(2).squeeze_dim::<2>(2))
    /// #     }
    /// #     fn dim(&self) -> usize {
    /// #         4
    /// #     }
    /// # }
    /// // `Means` is an `Encoder<3>`: it takes `[B, C, T]`.
    /// let device = Device::flex();
    /// let means = Means { linear: LinearConfig::new(2, 4).init(&device) };
    /// let boxed = BoxedEncoder::new::<3>(means.clone());
    /// assert_eq!(boxed.dim(), means.dim());
    /// assert_eq!(boxed.num_params(), means.num_params());
    /// ```
    pub fn new<const RANK: usize>(encoder: impl Encoder<RANK>) -> Self {
        Self(Box::new(Ranked::<_, RANK>(encoder)))
    }

    /// Width of the embedding.
    pub fn dim(&self) -> usize {
        self.0.dim()
    }

    /// Embeds `views` of shape `[B, ...]` given flat as `[B, prod(shape)]`.
    ///
    /// # Errors
    /// [`Error::Shape`] where `shape` (channels and grid) has another rank than the encoder takes.
    ///
    /// ```
    /// # use burn::module::Module;
    /// # use burn::nn::{Linear, LinearConfig};
    /// # use burn::tensor::{Device, Tensor};
    /// # use lejepa_core::{BoxedEncoder, Encoder};
    /// # #[derive(Module, Debug)]
    /// # struct Means {
    /// #     linear: Linear,
    /// # }
    /// # impl Encoder<3> for Means {
    /// #     fn encode(&self, views: Tensor<3>) -> Tensor<2> {
    /// #         self.linear.forward(views.mean_dim(2).squeeze_dim::<2>(2))
    /// #     }
    /// #     fn dim(&self) -> usize {
    /// #         4
    /// #     }
    /// # }
    /// # let device = Device::flex();
    /// # let means = Means { linear: LinearConfig::new(2, 4).init(&device) };
    /// // `means` is an `Encoder<3>`: it takes `[B, C, T]`.
    /// let boxed = BoxedEncoder::new::<3>(means);
    /// let flat = Tensor::<2>::ones([5, 2 * 16], &device);
    /// assert_eq!(boxed.encode(flat.clone(), &[2, 16])?.dims(), [5, 4]);
    /// assert!(boxed.encode(flat.clone(), &[2, 4, 4]).is_err());
    /// let local = Tensor::<2>::ones([3, 2 * 8], &device);
    /// assert_eq!(boxed.encode_all(vec![(flat, &[2, 16]), (local, &[2, 8])])?.dims(), [8, 4]);
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn encode(&self, views: Tensor<2>, shape: &[usize]) -> Result<Tensor<2>> {
        self.encode_all(vec![(views, shape)])
    }

    /// Embeds views of several shapes, of which there is at least one, each given flat with its shape:
    /// their embeddings, one after the other. See [`BoxedEncoder::encode`] for an example.
    ///
    /// # Errors
    /// As [`BoxedEncoder::encode`].
    pub fn encode_all(&self, views: Vec<(Tensor<2>, &[usize])>) -> Result<Tensor<2>> {
        self.0.encode_all(views)
    }
}

impl Clone for BoxedEncoder {
    fn clone(&self) -> Self {
        Self(self.0.clone_dyn())
    }
}

impl Module for BoxedEncoder {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.0.collect_devices_dyn(devices)
    }
    fn fork(self, device: &Device) -> Self {
        Self(self.0.fork_dyn(device))
    }
    fn to_device(self, device: &Device) -> Self {
        Self(self.0.to_device_dyn(device))
    }
    fn train(self) -> Self {
        Self(self.0.train_dyn())
    }
    fn valid(&self) -> Self {
        Self(self.0.valid_dyn())
    }
    fn materialize(self) -> Self {
        Self(self.0.materialize_dyn())
    }
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        self.0.visit_dyn(&mut FromDyn(visitor));
    }
    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        Self(self.0.map_dyn(&mut FromDyn(mapper)))
    }
}

impl burn::module::ModuleDisplayDefault for BoxedEncoder {
    fn content(&self, content: burn::module::Content) -> Option<burn::module::Content> {
        Some(content.add_formatted(&format!("{self:?}")))
    }
}

impl burn::module::ModuleDisplay for BoxedEncoder {}

/// What [`BoxedEncoder`] needs of an encoder, in a form that can be a trait object.
trait DynEncoder: Debug + Send + Sync {
    fn dim(&self) -> usize;
    fn encode_all(&self, views: Vec<(Tensor<2>, &[usize])>) -> Result<Tensor<2>>;
    fn clone_dyn(&self) -> Box<dyn DynEncoder>;
    fn collect_devices_dyn(&self, devices: Devices) -> Devices;
    fn fork_dyn(self: Box<Self>, device: &Device) -> Box<dyn DynEncoder>;
    fn to_device_dyn(self: Box<Self>, device: &Device) -> Box<dyn DynEncoder>;
    fn train_dyn(self: Box<Self>) -> Box<dyn DynEncoder>;
    fn valid_dyn(&self) -> Box<dyn DynEncoder>;
    fn materialize_dyn(self: Box<Self>) -> Box<dyn DynEncoder>;
    fn visit_dyn(&self, visitor: &mut dyn DynVisitor);
    fn map_dyn(self: Box<Self>, mapper: &mut dyn DynMapper) -> Box<dyn DynEncoder>;
}

#[derive(Debug, Clone)]
struct Ranked<E, const RANK: usize>(E);

impl<E: Encoder<RANK>, const RANK: usize> DynEncoder for Ranked<E, RANK> {
    fn dim(&self) -> usize {
        self.0.dim()
    }
    fn encode_all(&self, views: Vec<(Tensor<2>, &[usize])>) -> Result<Tensor<2>> {
        let shaped = views.into_iter().map(|(views, shape)| {
            let [batch, _] = views.dims();
            let mut dims = [batch; RANK];
            if shape.len() + 1 != RANK {
                return Err(Error::Shape {
                    what: "the encoder's input".into(),
                    expected: format!("{} axes without the batch", RANK - 1),
                    got: shape.to_vec(),
                });
            }
            dims[1..].copy_from_slice(shape);
            Ok(views.reshape(dims))
        });
        Ok(self.0.encode_all(shaped.collect::<Result<_>>()?))
    }
    fn clone_dyn(&self) -> Box<dyn DynEncoder> {
        Box::new(self.clone())
    }
    fn collect_devices_dyn(&self, devices: Devices) -> Devices {
        self.0.collect_devices(devices)
    }
    fn fork_dyn(self: Box<Self>, device: &Device) -> Box<dyn DynEncoder> {
        Box::new(Self(self.0.fork(device)))
    }
    fn to_device_dyn(self: Box<Self>, device: &Device) -> Box<dyn DynEncoder> {
        Box::new(Self(self.0.to_device(device)))
    }
    fn train_dyn(self: Box<Self>) -> Box<dyn DynEncoder> {
        Box::new(Self(self.0.train()))
    }
    fn valid_dyn(&self) -> Box<dyn DynEncoder> {
        Box::new(Self(self.0.valid()))
    }
    fn materialize_dyn(self: Box<Self>) -> Box<dyn DynEncoder> {
        Box::new(Self(self.0.materialize()))
    }
    fn visit_dyn(&self, visitor: &mut dyn DynVisitor) {
        self.0.visit(&mut ToDyn(visitor));
    }
    fn map_dyn(self: Box<Self>, mapper: &mut dyn DynMapper) -> Box<dyn DynEncoder> {
        Box::new(Self(self.0.map(&mut ToDyn(mapper))))
    }
}

/// A [`ModuleVisitor`] without generic methods: parameters travel as [`Any`].
trait DynVisitor {
    fn visit(&mut self, param: &dyn Any);
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
}

/// A [`ModuleMapper`] without generic methods. What goes in comes out as the same type.
trait DynMapper {
    fn map(&mut self, param: Box<dyn Any>) -> Box<dyn Any>;
    fn enter(&mut self, name: &str, container: &str);
    fn exit(&mut self, name: &str, container: &str);
}

/// From burn's generic traversal to the erased one.
struct ToDyn<T>(T);

/// From the erased traversal back to burn's generic one.
struct FromDyn<'a, T>(&'a mut T);

impl ModuleVisitor for ToDyn<&mut dyn DynVisitor> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.visit(param);
    }
    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.0.visit(param);
    }
    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.0.visit(param);
    }
    fn visit_flag(&mut self, flag: &Param<Flag>) {
        self.0.visit(flag);
    }
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.0.enter(name, container_type);
    }
    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.0.exit(name, container_type);
    }
    fn visit_float_with_path<const D: usize>(&mut self, _: &[String], id: ParamId, t: &Tensor<D>) {
        self.0.visit(&Param::initialized(id, t.clone()));
    }
}

fn through<T: 'static>(mapper: &mut dyn DynMapper, param: T) -> T {
    match mapper.map(Box::new(param)).downcast::<T>() {
        Ok(param) => *param,
        Err(_) => unreachable!("a mapper returns the type of parameter that it was given"),
    }
}

impl ModuleMapper for ToDyn<&mut dyn DynMapper> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        through(self.0, param)
    }
    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        through(self.0, param)
    }
    fn map_bool<const D: usize>(
        &mut self,
        param: Param<Tensor<D, Bool>>,
    ) -> Param<Tensor<D, Bool>> {
        through(self.0, param)
    }
    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        through(self.0, flag)
    }
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.0.enter(name, container_type);
    }
    fn exit_module(&mut self, name: &str, container_type: &str) {
        self.0.exit(name, container_type);
    }
}

/// Tries every rank and kind of parameter that burn's macros can produce.
macro_rules! each_parameter {
    ($call:ident) => {
        $call!(float; 1 2 3 4 5 6 7 8);
        $call!(int; 1 2 3 4 5 6 7 8);
        $call!(bool; 1 2 3 4 5 6 7 8);
    };
}

impl<V: ModuleVisitor> DynVisitor for FromDyn<'_, V> {
    fn visit(&mut self, param: &dyn Any) {
        macro_rules! try_visit {
            (float; $($d:literal)*) => {$(
                if let Some(p) = param.downcast_ref::<Param<Tensor<$d>>>() {
                    return self.0.visit_float(p);
                }
            )*};
            (int; $($d:literal)*) => {$(
                if let Some(p) = param.downcast_ref::<Param<Tensor<$d, Int>>>() {
                    return self.0.visit_int(p);
                }
            )*};
            (bool; $($d:literal)*) => {$(
                if let Some(p) = param.downcast_ref::<Param<Tensor<$d, Bool>>>() {
                    return self.0.visit_bool(p);
                }
            )*};
        }
        if let Some(flag) = param.downcast_ref::<Param<Flag>>() {
            return self.0.visit_flag(flag);
        }
        each_parameter!(try_visit);
        unreachable!("burn's tensors have 1 to 8 axes");
    }
    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }
    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}

impl<M: ModuleMapper> DynMapper for FromDyn<'_, M> {
    fn map(&mut self, param: Box<dyn Any>) -> Box<dyn Any> {
        let mut param = param;
        macro_rules! try_map {
            (float; $($d:literal)*) => {$(
                param = match param.downcast::<Param<Tensor<$d>>>() {
                    Ok(p) => return Box::new(self.0.map_float(*p)),
                    Err(other) => other,
                };
            )*};
            (int; $($d:literal)*) => {$(
                param = match param.downcast::<Param<Tensor<$d, Int>>>() {
                    Ok(p) => return Box::new(self.0.map_int(*p)),
                    Err(other) => other,
                };
            )*};
            (bool; $($d:literal)*) => {$(
                param = match param.downcast::<Param<Tensor<$d, Bool>>>() {
                    Ok(p) => return Box::new(self.0.map_bool(*p)),
                    Err(other) => other,
                };
            )*};
        }
        param = match param.downcast::<Param<Flag>>() {
            Ok(flag) => return Box::new(self.0.map_flag(*flag)),
            Err(other) => other,
        };
        each_parameter!(try_map);
        drop(param);
        unreachable!("burn's tensors have 1 to 8 axes");
    }
    fn enter(&mut self, name: &str, container: &str) {
        self.0.enter_module(name, container);
    }
    fn exit(&mut self, name: &str, container: &str) {
        self.0.exit_module(name, container);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};

    #[derive(Module, Debug)]
    struct Small {
        linear: Linear,
        norm: BatchNorm,
    }

    impl Encoder<3> for Small {
        fn encode(&self, views: Tensor<3>) -> Tensor<2> {
            let [b, c, t] = views.dims();
            self.norm.forward(self.linear.forward(views.reshape([b, c * t])))
        }
        fn dim(&self) -> usize {
            4
        }
    }

    fn small(device: &Device) -> Small {
        Small {
            linear: LinearConfig::new(6, 4).init(device),
            norm: BatchNormConfig::new(4).init(device),
        }
    }

    #[test]
    fn a_boxed_encoder_is_the_same_module() {
        let device = Device::flex().autodiff();
        let plain = small(&device);
        let boxed = BoxedEncoder::new::<3>(plain.clone());
        assert_eq!(boxed.num_params(), plain.num_params());
        assert_eq!(boxed.dim(), 4);

        let x = Tensor::<2>::ones([5, 6], &device);
        let a = boxed.encode(x.clone(), &[2, 3]).unwrap();
        let b = plain.encode(x.clone().reshape([5, 2, 3]));
        a.clone().into_data().assert_eq(&b.into_data(), true);

        // Records travel between the two forms: same names, same order. `valid` first: burn holds
        // the last batch's statistics back until somebody asks for them.
        let record = plain.valid().into_record();
        let other = BoxedEncoder::new::<3>(small(&device)).load_record(record);
        let c = other.valid().encode(x.clone().inner(), &[2, 3]).unwrap();
        let d = plain.valid().encode(x.clone().inner().reshape([5, 2, 3]));
        c.into_data().assert_eq(&d.into_data(), true);

        // Gradients are found under the ids of the parameters inside.
        let grads = a.powi_scalar(2).sum().backward();
        let found = burn::optim::GradientsParams::from_grads(grads, &boxed);
        assert_eq!(found.len(), 4);
    }

    #[test]
    fn a_wrong_rank_is_an_error() {
        let device = Device::flex();
        let boxed = BoxedEncoder::new::<3>(small(&device));
        let e = boxed.encode(Tensor::ones([5, 6], &device), &[6]).unwrap_err();
        assert!(e.to_string().contains("2 axes"), "{e}");
    }
}
