//! Traits that are no services.

#[pymq::service]
trait NotAwaited {
    fn product(&self, a: i64, b: i64) -> i64;
}

#[pymq::service]
trait Receivers {
    async fn changed(&mut self);
    async fn consumed(self);
    async fn absent(a: i64);
    async fn empty();
}

#[pymq::service]
trait Generic<T> {
    async fn get(&self, key: T) -> i64;
}

#[pymq::service]
trait Methods {
    const LIMIT: u32;
    async fn generic<T: ToString>(&self, value: T);
    async fn borrowed(&self, name: &str);
    async fn timeout(&self);
    #[remote]
    async fn nameless(&self);
}

#[pymq::service]
trait Empty {}

#[pymq::service]
trait Aliased {
    async fn hidden(&self) -> std::fmt::Result;
}

#[pymq::service]
struct NoTrait;

fn main() {}
