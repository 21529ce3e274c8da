//! Whom the fuzz targets compare with: Python's `json` and calls, Redis's matcher.
//!
//! Both are the real programs, started once for each target and asked about each input.

pub mod python;
pub mod redis;
