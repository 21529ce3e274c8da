//! What is written wrongly is told with its fix: each file of `ui` beside what the compiler says.
//!
//! Only messages of our own macros are compared, so that they are the same for every compiler.

#[test]
fn a_wrong_use_of_a_macro_is_told_with_its_fix() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
