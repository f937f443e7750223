//! The rules for every modality; see `lejepa_core::testing::Rule`.

// Linked for the general encoders and the checks that train.
use lejepa_nn as _;
use lejepa_train as _;

#[test]
fn the_modality_conforms() {
    lejepa_core::testing::check_modality::<accelerometer::Accelerometer>();
}
