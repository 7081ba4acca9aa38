//! Holds no code: the black-box tests are in `tests/it`.
