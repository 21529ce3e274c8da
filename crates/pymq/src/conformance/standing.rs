//! Rules of how a connection stands: its state, a sign of life, its health.

use super::{Broker, kind};
use crate::error::{ErrorKind, Result};
use crate::transport::State;

/// The state is `Connected` from the start and `Closed` at the end, for who reads on and for who comes
/// later.
pub async fn states_tell_connected_then_closed(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let mut states = connection.states();
    assert!(states.now().is_connected());
    assert!(states.next().await.is_some_and(|state| state.is_connected()));
    connection.close().await?;
    let mut late = connection.states();
    for states in [&mut states, &mut late] {
        assert_eq!(states.next().await, Some(State::Closed));
        assert_eq!(states.next().await, None);
        assert_eq!(states.now(), State::Closed);
    }
    Ok(())
}

/// A connection that is gone is closed for who still reads its states.
pub async fn states_end_with_their_connection(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let mut states = connection.states();
    drop(connection);
    while let Some(state) = states.next().await {
        assert!(state.is_connected() || state == State::Closed, "{state}");
    }
    assert_eq!(states.now(), State::Closed);
    Ok(())
}

/// A broker that is there gives a sign of life; a connection that was closed says `Closed`.
pub async fn ping_is_answered_until_it_is_closed(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    for _ in 0..3 {
        connection.ping().await?;
    }
    connection.close().await?;
    assert_eq!(kind(connection.ping().await), Some(ErrorKind::Closed));
    Ok(())
}

/// The health tells the state, without asking anybody.
pub async fn health_tells_the_state(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let health = connection.health();
    assert!(health.state.is_connected());
    assert_eq!((health.reconnects, health.unread_events, health.lost_events), (0, 0, 0));
    connection.close().await?;
    assert_eq!(connection.health().state, State::Closed);
    Ok(())
}
