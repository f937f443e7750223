//! The lejepa command line
