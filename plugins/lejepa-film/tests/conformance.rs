//! The conformance suite of `lejepa-core`.

// Linked for the encoders and the checks that train.
use lejepa_nn as _;
use lejepa_train as _;

#[test]
fn the_modality_conforms() {
    lejepa_core::testing::check_modality::<lejepa_film::FilmModality>();
}
