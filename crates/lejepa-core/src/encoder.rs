//! Encoders: any burn module that maps a batch of views to embeddings, and its type-erased form.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use std::fmt::Debug;

use crate::component::Component;
use crate::erased::{BoxedModule, Holder};
use crate::features::{Features, FlatInput, Input, Wants};
use crate::published::{Arrays, Published};
use crate::{Error, Registry, Result, Table, ViewSpec};

/// A backbone: embeds a batch of views.
///
/// `RANK` counts the batch axis: 4 for `[B, C, H, W]`, 3 for `[B, C, T]`.
///
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use lejepa_core::{Encoder, Input};
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
/// let all = means.encode_all(vec![Input::new(global), Input::new(local)])?;
/// assert_eq!(all.dims(), [10, 4]);
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait Encoder<const RANK: usize>: Module + Sync + 'static {
    /// Embeds views of one shape.
    ///
    /// # Shapes
    /// `[B, C, ...grid] -> [B, dim]`. Groups of views have their own grids, so an encoder must
    /// take all of them.
    fn encode(&self, views: Tensor<RANK>) -> Tensor<2>;

    /// Width of the embedding.
    fn dim(&self) -> usize;

    /// Embeds views of several shapes: the embeddings of [`Encoder::encode`], one after the other.
    /// There is at least one shape. Override it to embed all of them in one pass, or to take lengths.
    ///
    /// # Errors
    /// [`Error::BadValue`] for lengths, unless the encoder takes them.
    fn encode_all(&self, inputs: Vec<Input<RANK>>) -> Result<Tensor<2>> {
        let embedded = inputs.into_iter().map(|input| match input.lengths {
            None => Ok(self.encode(input.values)),
            Some(_) => Err(unsupported("views of varying length")),
        });
        Ok(Tensor::cat(embedded.collect::<Result<_>>()?, 0))
    }

    /// The pooled embedding and, where wanted, a vector for each cell of the encoder's grid, after the
    /// last layer and after others.
    ///
    /// # Errors
    /// [`Error::BadValue`] for what the encoder does not have.
    fn features(&self, input: Input<RANK>, wants: &Wants) -> Result<Features> {
        if !wants.is_pooled() {
            return Err(unsupported("dense features"));
        }
        Ok(Features::pooled(self.encode_all(vec![input])?))
    }

    /// Whether [`Encoder::encode_all`] takes lengths.
    fn takes_lengths(&self) -> bool {
        false
    }

    /// Dotted names of matrices and larger parameters that weight decay must spare, such as a class
    /// token. Vectors are spared anyway.
    fn undecayed(&self) -> Vec<String> {
        Vec::new()
    }

    /// How such encoders are published elsewhere, where they are: for weights of others, and for others that
    /// want these.
    fn published(&self) -> Option<Box<dyn Published>> {
        None
    }
}

/// The error for what an encoder cannot do.
fn unsupported(what: &str) -> Error {
    Error::bad_value("encoder.name", format!("this encoder does not support {what}"))
}

/// A family of encoders that can be chosen by name, for one modality or for all.
///
/// ```
/// # use burn::module::Module;
/// # use burn::nn::{Linear, LinearConfig};
/// # use burn::tensor::{Device, Tensor};
/// # use lejepa_core::Encoder;
/// use lejepa_core::{BoxedEncoder, BuildContext, Component, EncoderKind, Error, Result, ViewSpec};
/// use serde::{Deserialize, Serialize};
///
/// /// A linear layer on the mean of each channel: an `Encoder<3>`.
/// #[derive(Module, Debug)]
/// struct Means {
///     linear: Linear,
///     #[module(skip)]
///     width: usize,
/// }
/// # impl Encoder<3> for Means {
/// #     fn encode(&self, x: Tensor<3>) -> Tensor<2> {
/// #         self.linear.forward(x.mean_dim(2).squeeze_dim::<2>(2))
/// #     }
/// #     fn dim(&self) -> usize { self.width }
/// # }
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(deny_unknown_fields, default)]
/// struct Config {
///     width: usize,
/// }
/// # impl Default for Config {
/// #     fn default() -> Self { Self { width: 64 } }
/// # }
///
/// impl Component for Means {
///     const NAME: &'static str = "means";
///     const ABOUT: &'static str = "a linear layer on the mean of each channel";
///     type Config = Config;
/// }
///
/// impl EncoderKind for Means {
///     fn build(config: &Config, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
///         if config.width == 0 {
///             return Err(Error::bad_value("encoder.width", "must be at least 1"));
///         }
///         let linear = LinearConfig::new(at.views.channels(), config.width).init(at.device);
///         Ok(BoxedEncoder::new::<3>(Means { linear, width: config.width }))
///     }
/// }
///
/// let (views, device) = (ViewSpec::multi_crop(2, [3, 16], 0, [3, 16]), Device::flex());
/// let at = BuildContext::new(&views, &device);
/// assert_eq!(Means::build(&Config::default(), &at)?.dim(), 64);
/// assert!(Means::build(&Config { width: 0 }, &at).is_err());
/// # Ok::<(), lejepa_core::Error>(())
/// ```
pub trait EncoderKind: Component {
    /// The only modality this encoder is for; `None` where any grid will do.
    const MODALITY: Option<&'static str> = None;

    /// The numbers of grid axes of views that it can take: 1 for signals, 2 for pictures, 3 for clips.
    const AXES: &'static [usize] = &[1, 2, 3];

    /// Sizes under the names that they are published by, each with its settings as `key=value` words.
    const SIZES: &'static [(&'static str, &'static str)] = &[];

    /// Builds the encoder for the views of one stream.
    ///
    /// # Errors
    /// [`Error::BadValue`] for settings or view shapes that it cannot serve.
    fn build(config: &Self::Config, at: &BuildContext<'_>) -> Result<BoxedEncoder>;

    /// The settings that published weights need, where they are those of such an encoder; see
    /// [`Encoder::published`].
    fn recognise(published: &Arrays) -> Option<Table> {
        let _ = published;
        None
    }

    /// The settings under which it contains another encoder, given by its settings with their `name`; `None` where it
    /// contains none.
    fn around(encoder: &Table) -> Option<Table> {
        let _ = encoder;
        None
    }
}

/// What an encoder is built for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct BuildContext<'a> {
    /// The views that it will embed: those of its stream.
    pub views: &'a ViewSpec,
    /// Where its parameters go.
    pub device: &'a Device,
    /// Where an encoder that contains others finds them.
    pub registry: Option<&'a Registry>,
}

impl<'a> BuildContext<'a> {
    /// An encoder of `views` on `device`.
    pub fn new(views: &'a ViewSpec, device: &'a Device) -> Self {
        Self { views, device, registry: None }
    }

    /// Adds the registry, for encoders that contain others.
    #[must_use]
    pub fn with_registry(mut self, registry: &'a Registry) -> Self {
        self.registry = Some(registry);
        self
    }
}

/// An [`Encoder`] of any type and rank, itself a burn [`Module`].
pub type BoxedEncoder = BoxedModule<dyn ErasedEncoder>;

impl BoxedModule<dyn ErasedEncoder> {
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
        Self::hold(Ranked::<_, RANK>(encoder), |held| held)
    }

    /// Width of the embedding.
    pub fn dim(&self) -> usize {
        self.role().dim()
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
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn encode(&self, views: Tensor<2>, shape: &[usize]) -> Result<Tensor<2>> {
        self.encode_all(vec![FlatInput::new(views, shape)])
    }

    /// Embeds views of several shapes, of which there is at least one: their embeddings, one after the
    /// other.
    ///
    /// # Errors
    /// As [`BoxedEncoder::encode`]; [`Error::BadValue`] for lengths that the encoder does not take.
    pub fn encode_all(&self, inputs: Vec<FlatInput<'_>>) -> Result<Tensor<2>> {
        self.role().encode_all(inputs)
    }

    /// More than a vector of views of one shape; see [`Encoder::features`].
    ///
    /// # Errors
    /// As [`BoxedEncoder::encode_all`]; [`Error::BadValue`] for features that the encoder does not have.
    pub fn features(&self, input: FlatInput<'_>, wants: &Wants) -> Result<Features> {
        self.role().features(input, wants)
    }

    /// See [`Encoder::takes_lengths`].
    pub fn takes_lengths(&self) -> bool {
        self.role().takes_lengths()
    }

    /// See [`Encoder::undecayed`].
    pub fn undecayed(&self) -> Vec<String> {
        self.role().undecayed()
    }

    /// See [`Encoder::published`].
    pub fn published(&self) -> Option<Box<dyn Published>> {
        self.role().published()
    }
}

/// [`Encoder`] without its rank.
pub trait ErasedEncoder {
    #[doc(hidden)]
    fn dim(&self) -> usize;
    #[doc(hidden)]
    fn encode_all(&self, inputs: Vec<FlatInput<'_>>) -> Result<Tensor<2>>;
    #[doc(hidden)]
    fn features(&self, input: FlatInput<'_>, wants: &Wants) -> Result<Features>;
    #[doc(hidden)]
    fn takes_lengths(&self) -> bool;
    #[doc(hidden)]
    fn undecayed(&self) -> Vec<String>;
    #[doc(hidden)]
    fn published(&self) -> Option<Box<dyn Published>>;
}

#[derive(Debug, Clone)]
struct Ranked<E, const RANK: usize>(E);

impl<E: Encoder<RANK>, const RANK: usize> Holder for Ranked<E, RANK> {
    type Inner = E;
    fn inner(&self) -> &E {
        &self.0
    }
    fn into_inner(self) -> E {
        self.0
    }
    fn hold(inner: E) -> Self {
        Self(inner)
    }
}

impl<E: Encoder<RANK>, const RANK: usize> ErasedEncoder for Ranked<E, RANK> {
    fn dim(&self) -> usize {
        self.0.dim()
    }
    fn encode_all(&self, inputs: Vec<FlatInput<'_>>) -> Result<Tensor<2>> {
        self.0.encode_all(inputs.into_iter().map(shaped).collect::<Result<_>>()?)
    }
    fn features(&self, input: FlatInput<'_>, wants: &Wants) -> Result<Features> {
        self.0.features(shaped(input)?, wants)
    }
    fn takes_lengths(&self) -> bool {
        self.0.takes_lengths()
    }
    fn undecayed(&self) -> Vec<String> {
        self.0.undecayed()
    }
    fn published(&self) -> Option<Box<dyn Published>> {
        self.0.published()
    }
}

fn shaped<const RANK: usize>(input: FlatInput<'_>) -> Result<Input<RANK>> {
    let [batch, _] = input.values.dims();
    let mut dims = [batch; RANK];
    if input.shape.len() + 1 != RANK {
        return Err(Error::Shape {
            what: "the encoder's input".into(),
            expected: format!("{} axes without the batch", RANK - 1),
            got: input.shape.to_vec(),
        });
    }
    dims[1..].copy_from_slice(input.shape);
    Ok(Input { values: input.values.reshape(dims), lengths: input.lengths })
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
