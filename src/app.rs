//! The parts of the process, built once from the settings.
