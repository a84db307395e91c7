//! What is done for a connection as long as it lives.

use std::sync::Arc;

use petrel_transport::Connection;

use crate::shared::Shared;
use crate::stream;

/// Sends copies while packets are being lost.
pub(crate) async fn send_echo(shared: &Arc<Shared>) {
    match shared.echo() {
        Some(echo) => match echo.send().await {},
        None => std::future::pending().await,
    }
}

/// Takes the streams that the server opens.
pub(crate) async fn accept_streams(shared: &Arc<Shared>, connection: &Connection) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        let task = stream::accepted(Arc::clone(shared), connection.clone(), send, recv);
        shared.tasks.spawn(task);
    }
}

/// Looks at conversations when their time has come.
pub(crate) async fn keep_time(shared: &Arc<Shared>) {
    loop {
        let changed = shared.timer.notified();
        match shared.next_wake() {
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = changed => {}
                }
            }
            None => changed.await,
        }
        shared.fire();
    }
}
