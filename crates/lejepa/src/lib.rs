//! LeJEPA for any modality
