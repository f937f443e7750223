//! Patches of images, clips and sequences.

use burn::tensor::Tensor;

/// `[B, C, T, H, W] -> [B, patches, C·pt·ph·pw]`
pub(crate) fn patchify(views: Tensor<5>, [pt, ph, pw]: [usize; 3]) -> Tensor<3> {
    let [b, c, t, h, w] = views.dims();
    let (gt, gh, gw) = (t / pt, h / ph, w / pw);
    let size = c * pt * ph * pw;
    if t == 1 {
        // Fewer axes to permute than in the general case.
        let x = views.reshape([b, c, gh, ph, gw, pw]).permute([0, 2, 4, 1, 3, 5]);
        return x.reshape([b, gh * gw, size]);
    }
    let x = views.reshape([b, c, gt, pt, gh, ph, gw, pw]).permute([0, 2, 4, 6, 1, 3, 5, 7]);
    x.reshape([b, gt * gh * gw, size])
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, Int};

    #[test]
    fn patches_keep_pixels_together() {
        let device = Device::flex();
        let x = Tensor::<1, Int>::arange(0..16, &device).float().reshape([1, 1, 1, 4, 4]);
        let p: Vec<f32> = patchify(x, [1, 2, 2]).into_data().try_to_vec().unwrap();
        assert_eq!(p[..4], [0.0, 1.0, 4.0, 5.0]);
        assert_eq!(p[12..], [10.0, 11.0, 14.0, 15.0]);
    }

    #[test]
    fn a_frame_has_the_patches_of_its_clip() {
        let device = Device::flex();
        let x = Tensor::<5>::random([2, 3, 4, 4, 6], Distribution::Default, &device);
        let clip = patchify(x.clone(), [1, 2, 3]);
        let frame = patchify(x.narrow(2, 1, 1), [1, 2, 3]);
        // Frame 1 is the second group of 2·2 patches.
        clip.narrow(1, 4, 4).into_data().assert_eq(&frame.into_data(), true);
    }
}
