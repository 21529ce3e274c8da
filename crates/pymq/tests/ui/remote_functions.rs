//! Functions that cannot be called from elsewhere.

#[pymq::remote]
async fn generic<T: ToString>(value: T) -> String {
    value.to_string()
}

struct Shop;

impl Shop {
    #[pymq::remote]
    async fn method(&self, a: i64) -> i64 {
        a
    }
}

#[pymq::remote]
unsafe fn dangerous() {}

#[pymq::remote]
async fn lends() -> &'static str {
    "text"
}

#[pymq::remote]
struct NoFunction;

#[pymq::remote(product)]
async fn unquoted(a: i64) -> i64 {
    a
}

#[pymq::remote("")]
async fn nameless(a: i64) -> i64 {
    a
}

fn main() {}
