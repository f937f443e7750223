//! The LeJEPA objective: prediction loss and SIGReg
