//! Parameters that no argument of another program can become.
#![allow(unused_variables)]

#[pymq::remote]
async fn borrowed(text: &str, bytes: &[u8], maybe: Option<&str>, number: &i64) {}

#[pymq::remote]
async fn patterns((a, b): (i64, i64), _: i64) -> i64 {
    a + b
}

#[pymq::remote]
async fn anything(value: impl ToString) -> String {
    value.to_string()
}

#[pymq::remote]
async fn too_many(
    a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8, i: u8, j: u8, k: u8, l: u8, m: u8,
) {}

fn main() {}
