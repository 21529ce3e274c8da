//! The contract, rule by rule, with the server in a process of its own.

mod server;

use std::sync::Arc;

use pymq::conformance::Broker;
use pymq::transport::{Limit, Transport};
use pymq_tcp::Tcp;

impl Broker for server::Server {
    async fn connect(&self) -> pymq::Result<Arc<dyn Transport>> {
        Ok(Tcp::connect(self.address()).await?)
    }

    fn mailbox(&self) -> Limit {
        pymq_tcp::MAILBOX
    }
}

pymq::conformance_suite!(tcp, server::Server::start());
