//! Settings of a vision transformer.

use lejepa_core::Result;
use lejepa_core::config::check::{ensure, within};
use serde::{Deserialize, Serialize};

/// How patch tokens become one embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// The mean of the patch tokens.
    #[default]
    Mean,
    /// A class token prepended to the patches.
    Cls,
}

/// Positions of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionKind {
    /// Fixed sines and cosines.
    #[default]
    Sincos,
    /// A vector for each patch of a global view.
    Learned,
    /// Rotations of queries and keys.
    Rope,
}

/// How pixels become tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StemKind {
    /// A linear layer of each patch.
    #[default]
    Patch,
    /// Convolutions of stride 2.
    Conv,
}

/// The perceptron of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedForward {
    /// W₂·GELU(W₁·x).
    #[default]
    Gelu,
    /// W₂·(SiLU(W₃·x)·W₁·x) (Shazeer, arXiv 2002.05202).
    Swiglu,
}

/// Published sizes of a [`Vit`](crate::Vit): DeiT's tiny and small (arXiv 2012.12877), ViT's base, large and huge
/// (arXiv 2010.11929), and the giant of arXiv 2106.04560.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VitSize {
    /// As the other keys say.
    #[default]
    Custom,
    /// Width 192, depth 12, 3 heads.
    Tiny,
    /// Width 384, depth 12, 6 heads.
    Small,
    /// Width 768, depth 12, 12 heads.
    Base,
    /// Width 1024, depth 24, 16 heads.
    Large,
    /// Width 1280, depth 32, 16 heads.
    Huge,
    /// Width 1408, depth 40, 16 heads, hidden layers of 6144.
    Giant,
}

/// Settings of a [`Vit`](crate::Vit).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VitConfig {
    /// A published size, which takes the place of `width`, `depth`, `heads` and `mlp_ratio`: `tiny`, `small`,
    /// `base`, `large`, `huge`, `giant`; or `custom`.
    pub size: VitSize,
    /// Width of tokens and of the embedding; a multiple of `heads`, at least 2 per grid axis.
    pub width: usize,
    /// Number of blocks, at least 1.
    pub depth: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a block's hidden layer over `width`.
    pub mlp_ratio: f64,
    /// Patch size per grid axis, e.g. `[8, 8]`, or one number for all axes; two for clips are those of single
    /// frames. `[]` chooses: the largest size up to 16 that divides every view and leaves at least 6 patches an
    /// axis.
    pub patch: Vec<usize>,
    /// How pixels become tokens: `patch`, a linear layer of each patch; or `conv`, 3×3 convolutions of stride 2 down to
    /// the size of a patch, a power of two, which learn faster (Xiao et al., arXiv 2106.14881).
    pub stem: StemKind,
    /// How tokens become one embedding: `mean` or `cls`.
    pub pool: Pool,
    /// Learned tokens beside the patches that are thrown away at the end (registers; Darcet et al.,
    /// arXiv 2309.16588), 0 to 64.
    pub registers: usize,
    /// Positions of patches: `sincos`, fixed, in patches from the centre; `learned` for the patches of a global
    /// view, and interpolated for views of other sizes; or `rope`, rotations of queries and keys by the place in
    /// the view, from -1 to 1 along each axis, as in DINOv3 (arXiv 2508.10104): then keys have no bias.
    pub positions: PositionKind,
    /// The perceptron of a block: `gelu`, or `swiglu`, which has half as many parameters more.
    pub mlp: FeedForward,
    /// Probability, 0 to below 1, that the last block skips a sample while training; earlier
    /// blocks less, linearly (stochastic depth).
    pub drop_path: f64,
    /// Share of its patch tokens, 0 to below 1, that each view is without while training, at random;
    /// at least 16 stay. A step takes as much less time.
    pub drop_tokens: f64,
    /// Whether patches of a clip attend to those of their own time and before alone (block-causal attention); the
    /// class token and registers attend to all. For embeddings of a stream that do not depend on what is to come.
    pub causal: bool,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            size: VitSize::Custom,
            width: 96,
            depth: 4,
            heads: 3,
            mlp_ratio: 4.0,
            patch: Vec::new(),
            stem: StemKind::Patch,
            pool: Pool::Mean,
            registers: 0,
            positions: PositionKind::Sincos,
            mlp: FeedForward::Gelu,
            drop_path: 0.0,
            drop_tokens: 0.0,
            causal: false,
        }
    }
}

impl VitConfig {
    /// The settings with those of [`VitConfig::size`] filled in.
    ///
    /// ```
    /// use lejepa_nn::{VitConfig, VitSize};
    ///
    /// let small = VitConfig { size: VitSize::Small, ..VitConfig::default() }.sized();
    /// assert_eq!((small.width, small.depth, small.heads), (384, 12, 6));
    /// ```
    #[must_use]
    pub fn sized(&self) -> Self {
        let (width, depth, heads, mlp_ratio) = match self.size {
            VitSize::Custom => return self.clone(),
            VitSize::Tiny => (192, 12, 3, 4.0),
            VitSize::Small => (384, 12, 6, 4.0),
            VitSize::Base => (768, 12, 12, 4.0),
            VitSize::Large => (1024, 24, 16, 4.0),
            VitSize::Huge => (1280, 32, 16, 4.0),
            VitSize::Giant => (1408, 40, 16, 48.0 / 11.0),
        };
        Self { width, depth, heads, mlp_ratio, ..self.clone() }
    }

    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`Error::BadValue`], which names the key.
    pub(crate) fn validate(&self, axes: usize) -> Result<()> {
        let (width, depth, heads) = (self.width, self.depth, self.heads);
        let fits = depth > 0 && heads > 0 && width.is_multiple_of(heads.max(1));
        let reason = format_args!(
            "width {width} must be a multiple of heads {heads}, and depth {depth} at least 1"
        );
        ensure("encoder.width", fits, reason)?;
        ensure("encoder.width", width >= 2 * axes, "must be at least 2 per grid axis")?;
        if self.positions == PositionKind::Rope {
            let fits = width.checked_div(heads).is_some_and(|depth| depth.is_multiple_of(2 * axes));
            let reason = format_args!("rope takes heads of a multiple of {} in width", 2 * axes);
            ensure("encoder.positions", fits, reason)?;
        }
        ensure("encoder.drop_path", (0.0..1.0).contains(&self.drop_path), "must lie in 0..1")?;
        ensure("encoder.drop_tokens", (0.0..1.0).contains(&self.drop_tokens), "must lie in 0..1")?;
        let ratio = self.mlp_ratio;
        ensure("encoder.mlp_ratio", ratio > 0.0 && ratio <= 64.0, "must lie in 0..=64, above 0")?;
        within("encoder.registers", self.registers, 0..=64)
    }
}
