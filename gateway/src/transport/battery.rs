//! What every room must do, tested once for all of them.
