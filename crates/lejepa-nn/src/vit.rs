//! Vision transformer (Dosovitskiy et al., arXiv 2010.11929) over any patch grid.

use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Distribution, Int, Tensor};
use lejepa_core::config::check::ensure;
use lejepa_core::{
    Arrays, BoxedEncoder, BuildContext, Component, EncoderKind, Error, Features, Published, Result,
    Table, ViewSpec, Wants,
};
use lejepa_kernels::{layer_norm, linear};

use crate::grid::{GridEncoder, boxed, encoder_of_any_grid};
use crate::patch::patchify;
use crate::position::{Interpolations, Positions, Rotations};
use crate::published_vit::PublishedVit;
use crate::vit_block::{Block, Mask, Rotation, Samples, Tokens, bias, epsilon, shift};
use crate::vit_config::{Pool, PositionKind, StemKind, VitConfig};
use crate::vit_stem::ConvStem;

impl VitConfig {
    /// Builds the transformer for `channels` channels and the given patch size per grid axis
    /// (1 to 3 axes). Learned positions are those of a grid of `patches` along each axis.
    ///
    /// # Errors
    /// [`Error::BadValue`] for settings out of range, and for patches that the stem cannot make.
    ///
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use lejepa_core::Encoder;
    /// use lejepa_nn::VitConfig;
    ///
    /// let device = Device::flex();
    /// let config = VitConfig { width: 24, depth: 1, heads: 2, ..Default::default() };
    /// let vit = config.init(3, &[2, 4, 4], &[2, 2, 2], &device)?;
    /// assert_eq!(vit.encode(Tensor::<5>::zeros([2, 3, 4, 8, 8], &device)).dims(), [2, 24]);
    /// # Ok::<(), lejepa_core::Error>(())
    /// ```
    pub fn init(
        &self,
        channels: usize,
        patch: &[usize],
        patches: &[usize],
        device: &Device,
    ) -> Result<Vit> {
        self.sized().init_sized(channels, patch, patches, device)
    }

    fn init_sized(
        &self,
        channels: usize,
        patch: &[usize],
        patches: &[usize],
        device: &Device,
    ) -> Result<Vit> {
        let axes = patch.len().clamp(1, 3);
        self.validate(axes)?;
        let (patch, grid) = (three(patch), three(patches));
        let stem = (self.stem == StemKind::Conv)
            .then(|| ConvStem::new(channels, patch, self.width, device))
            .transpose()?;
        let inputs = match &stem {
            Some(stem) => stem.width(),
            None => channels * patch.iter().product::<usize>(),
        };
        let blocks = (0..self.depth).map(|i| Block::new(self, i, device)).collect();
        let tokens = |count: usize| {
            Initializer::Normal { mean: 0.0, std: 0.02 }.init([1, count, self.width], device)
        };
        let cells = grid.iter().product();
        Ok(Vit {
            stem,
            embed: LinearConfig::new(inputs, self.width).init(device),
            cls: (self.pool == Pool::Cls).then(|| tokens(1)),
            registers: (self.registers > 0).then(|| tokens(self.registers)),
            places: (self.positions == PositionKind::Learned).then(|| tokens(cells)),
            blocks,
            norm: LayerNormConfig::new(self.width)
                .with_epsilon(epsilon(self.positions == PositionKind::Rope))
                .init(device),
            patch,
            width: self.width,
            drop_tokens: self.drop_tokens,
            causal: self.causal,
            grid,
            heads: self.heads,
            is_rope: self.positions == PositionKind::Rope,
            axes,
            positions: Positions::default(),
            interpolations: Interpolations::default(),
            rotations: Rotations::default(),
        })
    }

    fn patch_for(&self, views: &ViewSpec) -> Result<Vec<usize>> {
        let axes = views.grid().len();
        let all = views.grids();
        let patch = match self.patch.len() {
            0 => (0..axes).map(|a| auto_patch(&all, a)).collect(),
            1 => vec![self.patch[0]; axes],
            2 if axes == 3 => vec![1, self.patch[0], self.patch[1]],
            n if n == axes => self.patch.clone(),
            n => {
                return Err(Error::bad_value(
                    "encoder.patch",
                    format!("has {n} sizes, the views have {axes} axes"),
                ));
            }
        };
        for grid in all {
            if let Some(a) = (0..axes).find(|&a| patch[a] == 0 || !grid[a].is_multiple_of(patch[a]))
            {
                return Err(Error::bad_value(
                    "encoder.patch",
                    format!("{} does not divide a view's axis of {}", patch[a], grid[a]),
                ));
            }
        }
        Ok(patch)
    }
}

/// Sizes along up to three axes; missing leading ones are 1.
fn three(sizes: &[usize]) -> [usize; 3] {
    let mut all = [1; 3];
    let given = sizes.len().min(3);
    all[3 - given..].copy_from_slice(&sizes[..given]);
    all
}

fn auto_patch(grids: &[Vec<usize>], axis: usize) -> usize {
    let fits = |p: &usize| grids.iter().all(|g| g[axis].is_multiple_of(*p));
    let largest = grids.iter().map(|g| g[axis]).max().unwrap_or(1);
    (1..=16).rev().filter(fits).find(|p| largest / p >= 6).unwrap_or(1)
}

/// A pre-norm vision transformer for views of any size that the patch divides: positions are fixed, or learned
/// and interpolated.
#[derive(Module, Debug)]
pub struct Vit {
    /// In place of patches.
    stem: Option<ConvStem>,
    embed: Linear,
    cls: Option<Param<Tensor<3>>>,
    registers: Option<Param<Tensor<3>>>,
    /// Learned positions of the patches of `grid`.
    places: Option<Param<Tensor<3>>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    #[module(skip)]
    patch: [usize; 3],
    #[module(skip)]
    width: usize,
    #[module(skip)]
    drop_tokens: f64,
    #[module(skip)]
    causal: bool,
    #[module(skip)]
    grid: [usize; 3],
    #[module(skip)]
    heads: usize,
    /// Whether positions rotate queries and keys.
    #[module(skip)]
    is_rope: bool,
    /// Axes of the patch grid, the last ones of `grid`.
    #[module(skip)]
    axes: usize,
    #[module(skip)]
    positions: Positions,
    #[module(skip)]
    interpolations: Interpolations,
    #[module(skip)]
    rotations: Rotations,
}

impl GridEncoder for Vit {
    fn width(&self) -> usize {
        self.width
    }

    /// `[B, C, T, H, W] -> [B, width]` for views of each shape, one after the other.
    fn forward_all(&self, views: Vec<Tensor<5>>) -> Tensor<2> {
        let tokens = views.into_iter().map(|views| self.tokens(views)).collect();
        let through = self.through_blocks(tokens).into_iter();
        Tensor::cat(through.map(|tokens| self.pooled(tokens)).collect(), 0)
    }

    fn patch(&self) -> Option<[usize; 3]> {
        // Batch norm of single views is none.
        self.stem.is_none().then_some(self.patch)
    }

    /// Dense features are the normalised tokens after the last block, without the class token; those of
    /// other layers are not normalised.
    fn features(&self, views: Tensor<5>, wants: &Wants) -> Result<Features> {
        let depth = self.blocks.len();
        if let Some(layer) = wants.layers.iter().find(|layer| **layer >= depth) {
            let reason =
                format!("has {depth} blocks, counted from 0: no features of layer {layer}");
            return Err(Error::bad_value("encoder.depth", reason));
        }
        let [_, _, t, h, w] = views.dims();
        let [pt, ph, pw] = self.patch;
        let (mut x, samples) = Samples::concatenate(vec![self.tokens(views)]);
        let cells = |x: Tensor<2>| {
            let x = samples.split(x).swap_remove(0);
            let [_, tokens, _] = x.dims();
            let first = self.prefix();
            x.narrow(1, first, tokens - first)
        };
        let mut after = Vec::with_capacity(depth);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, &samples);
            after.push(wants.layers.contains(&i).then(|| cells(x.clone())));
        }
        let layers = wants.layers.iter().filter_map(|layer| after[*layer].clone()).collect();
        let last = samples.split(x.clone()).swap_remove(0);
        let features = Features::pooled(self.pooled(last))
            .with_dense(self.normalize(cells(x)), [t / pt, h / ph, w / pw])
            .with_layers(layers);
        Ok(features)
    }

    fn undecayed(&self) -> Vec<String> {
        [("cls", &self.cls), ("registers", &self.registers), ("places", &self.places)]
            .into_iter()
            .filter_map(|(name, tokens)| tokens.as_ref().map(|_| name.to_string()))
            .collect()
    }

    fn published(&self) -> Option<Box<dyn Published>> {
        let block = self.blocks.first().filter(|_| self.stem.is_none())?;
        Some(Box::new(PublishedVit {
            width: self.width,
            depth: self.blocks.len(),
            heads: self.heads,
            hidden: block.hidden(),
            is_gated: block.is_gated(),
            is_rope: self.is_rope,
            patch: self.patch,
            grid: self.grid,
            is_cls: self.cls.is_some(),
            registers: self.registers.as_ref().map_or(0, |tokens| tokens.dims()[1]),
            is_learned: self.places.is_some(),
            is_causal: self.causal,
        }))
    }
}

impl Vit {
    /// The tokens of views `[B, C, T, H, W]`.
    fn tokens(&self, views: Tensor<5>) -> Tokens {
        let device = views.device();
        let [b, _, t, h, w] = views.dims();
        let [pt, ph, pw] = self.patch;
        let grid = [t / pt, h / ph, w / pw];
        let mut patches = match &self.stem {
            Some(stem) => stem.forward(views),
            None => patchify(views, self.patch),
        };
        let kept = self.kept(patches.dims(), &device);
        let dtype = patches.dtype();
        if let Some(kept) = &kept {
            patches = pick(patches, kept.clone());
        }
        // Those of the patches that stay.
        let of_kept = |all: Tensor<3>| match &kept {
            Some(kept) => {
                let [_, cells, width] = all.dims();
                pick(all.expand([b, cells, width]), kept.clone())
            }
            None => all,
        };
        let mut tokens = linear(patches, self.embed.weight.val(), bias(&self.embed));
        let mut rotation = None;
        if self.is_rope {
            let depth = self.width / self.heads;
            let angles = self.rotations.get(grid, self.axes, depth, &device, dtype);
            rotation = Some(Rotation::new(of_kept(angles), self.prefix()));
        } else {
            tokens = tokens
                + of_kept(match &self.places {
                    None => self.positions.get(grid, self.width, &device, dtype),
                    Some(places) if grid == self.grid => places.val(),
                    Some(places) => {
                        let weights = self.interpolations.get(self.grid, grid, &device, dtype);
                        weights.matmul(places.val())
                    }
                });
        }
        let mask = (self.causal && grid[0] > 1)
            .then(|| Mask::causal(self.times(of_kept(times(grid, &device)))));
        let prefix = [&self.cls, &self.registers].into_iter().flatten();
        let mut all: Vec<Tensor<3>> =
            prefix.map(|tokens| tokens.val().expand([b as isize, -1, -1])).collect();
        all.push(tokens);
        let values = if all.len() == 1 { all.swap_remove(0) } else { Tensor::cat(all, 1) };
        Tokens { values, rotation, mask }
    }

    /// The times of all tokens, `[1 or B, tokens]`, from those of the patches, `[1 or B, patches, 1]`. Class token
    /// and registers are later than all patches: they see everything, and carry nothing back.
    fn times(&self, of_patches: Tensor<3>) -> Tensor<2> {
        let [samples, ..] = of_patches.dims();
        let after = Tensor::full([samples, self.prefix()], f32::MAX, &of_patches.device());
        Tensor::cat(vec![after, of_patches.squeeze_dim::<2>(2)], 1)
    }

    /// Tokens before those of the patches.
    fn prefix(&self) -> usize {
        [&self.cls, &self.registers].into_iter().flatten().map(|tokens| tokens.dims()[1]).sum()
    }

    /// While training, which patches of each view stay, `[B, kept]`, where some are dropped.
    fn kept(&self, [b, n, _]: [usize; 3], device: &Device) -> Option<Tensor<2, Int>> {
        let kept = ((n as f64 * (1.0 - self.drop_tokens)).ceil() as usize).max(MIN_TOKENS.min(n));
        let draw = || Tensor::<2>::random([b, n], Distribution::Default, device);
        (device.is_autodiff() && kept < n).then(|| draw().argsort(1).narrow(1, 0, kept))
    }

    /// Samples of all lengths through all blocks, together, so that weights are packed and their gradients
    /// summed once.
    fn through_blocks(&self, views: Vec<Tokens>) -> Vec<Tensor<3>> {
        let (x, samples) = Samples::concatenate(views);
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x, &samples));
        samples.split(x)
    }

    /// `[B, tokens, width] -> [B, width]`
    fn pooled(&self, x: Tensor<3>) -> Tensor<2> {
        match self.cls {
            // Layer norm is token-wise: the class token alone is enough.
            Some(_) => self.normalize(x.narrow(1, 0, 1)).squeeze_dim::<2>(1),
            None => {
                let ([_, tokens, _], first) = (x.dims(), self.prefix());
                let patches = x.narrow(1, first, tokens - first);
                self.normalize(patches).mean_dim(1).squeeze_dim::<2>(1)
            }
        }
    }

    fn normalize(&self, x: Tensor<3>) -> Tensor<3> {
        layer_norm(x, self.norm.gamma.val(), shift(&self.norm), epsilon(self.is_rope))
    }
}

/// `[B, n, width]` and places `[B, kept] -> [B, kept, width]`
fn pick(x: Tensor<3>, places: Tensor<2, Int>) -> Tensor<3> {
    let ([b, n, width], [_, kept]) = (x.dims(), places.dims());
    let first = Tensor::<1, Int>::arange(0..b as i64, &places.device()) * n as i64;
    let rows = (places + first.reshape([b, 1])).reshape([b * kept]);
    x.reshape([b * n, width]).select(0, rows).reshape([b, kept, width])
}

/// The place in time of each patch of a grid, `[1, patches, 1]`.
fn times([t, h, w]: [usize; 3], device: &Device) -> Tensor<3> {
    let times = Tensor::<1, Int>::arange(0..t as i64, device).float();
    times.reshape([t, 1]).expand([t, h * w]).reshape([1, t * h * w, 1])
}

/// Tokens that [`VitConfig::drop_tokens`] leaves a view at least.
const MIN_TOKENS: usize = 16;

encoder_of_any_grid!(Vit);

/// Registers [`Vit`] as `vit`.
pub struct VitKind;

impl Component for VitKind {
    const NAME: &'static str = "vit";
    const ABOUT: &'static str = "vision transformer over any patch grid";
    type Config = VitConfig;

    fn docs() -> lejepa_core::config::Docs {
        lejepa_core::config::field_docs(include_str!("vit_config.rs"), "VitConfig")
    }
}

impl EncoderKind for VitKind {
    const SIZES: &'static [(&'static str, &'static str)] = &[
        ("vit_tiny_patch16", "size=tiny patch=[16] pool=cls positions=learned"),
        ("vit_small_patch16", "size=small patch=[16] pool=cls positions=learned"),
        ("vit_small_patch8", "size=small patch=[8] pool=cls positions=learned"),
        ("vit_base_patch16", "size=base patch=[16] pool=cls positions=learned"),
        ("vit_base_patch8", "size=base patch=[8] pool=cls positions=learned"),
        ("vit_large_patch16", "size=large patch=[16] pool=cls positions=learned"),
        ("vit_large_patch14", "size=large patch=[14] pool=cls positions=learned"),
        ("vit_huge_patch14", "size=huge patch=[14] pool=cls positions=learned"),
        ("vit_giant_patch14", "size=giant patch=[14] pool=cls positions=learned"),
        ("vit_small_patch16_dinov3", "size=small patch=[16] pool=cls registers=4 positions=rope"),
        ("vit_base_patch16_dinov3", "size=base patch=[16] pool=cls registers=4 positions=rope"),
        ("vit_large_patch16_dinov3", "size=large patch=[16] pool=cls registers=4 positions=rope"),
    ];

    fn build(config: &VitConfig, at: &BuildContext<'_>) -> Result<BoxedEncoder> {
        let (views, device) = (at.views, at.device);
        let axes = views.grid().len();
        let fits = !config.causal || axes == 3;
        ensure(
            "encoder.causal",
            fits,
            "is for clips: these views have no axis of time before two others",
        )?;
        let patch = config.patch_for(views)?;
        let patches: Vec<usize> = views.grid().iter().zip(&patch).map(|(n, p)| n / p).collect();
        boxed(config.init(views.channels(), &patch, &patches, device)?, axes)
    }

    fn recognise(published: &Arrays) -> Option<Table> {
        PublishedVit::recognise(published)
    }
}

#[cfg(test)]
#[path = "vit_tests.rs"]
mod tests;
