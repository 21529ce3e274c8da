//! Run once: a job that is put twice, or delivered twice, has its effect once. The put's id keeps a
//! repeated request out of the queue; the note of what was done stands where the effect stands.

use std::collections::HashSet;

use pymq::{Bus, PutOptions};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    amount: i64,
}

/// Stands for a database: what one of its methods does is one transaction.
struct Account {
    balance: i64,
    done: HashSet<u64>,
}

impl Account {
    /// The note and the effect: both are there, or neither.
    fn pay(&mut self, order: &Order) -> bool {
        let first = self.done.insert(order.id);
        if first {
            self.balance -= order.amount;
        }
        first
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let bus = Bus::connect("memory://").await?;
    let orders = bus.queue::<Order>("recipes.payments");
    let order = Order { id: 17, amount: 30 };
    for _ in 0..2 {
        // Somebody clicked twice.
        let once = PutOptions::new().id(format!("pay-{}", order.id));
        println!("{:?}", orders.put_with(&order, once).await?);
    }
    assert_eq!(orders.len().await?, 1);

    // A worker does it, and dies before it has confirmed.
    let mut account = Account { balance: 100, done: HashSet::new() };
    let delivery = orders.claim().await?;
    assert!(account.pay(&delivery));
    drop(delivery);

    let delivery = orders.claim().await?;
    assert!(!account.pay(&delivery), "it was paid before");
    delivery.ack().await?;
    println!("balance {}", account.balance);
    assert_eq!(account.balance, 70);
    Ok(())
}
