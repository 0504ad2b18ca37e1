//! Settings: flag, variable, default, help and check from one definition.
