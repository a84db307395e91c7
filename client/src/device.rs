//! More devices of the same user.

use petrel_proto::wire::{self, frame::What};

use crate::client::Client;
use crate::error::ClientError;
use crate::id::{DeviceId, UserId};
use crate::identity::{Identity, Secret};

impl Client {
    /// Makes one more device of this user, for another machine or program: give it the identity,
    /// which is shown this once. Should the answer get lost the device is there all the same;
    /// nobody has its secret then, and it can be revoked.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with `LimitReached` (32 devices) or `Invalid`; what a request may meet.
    pub async fn add_device(&self, user_name: &str, label: &str) -> Result<Identity, ClientError> {
        let request = What::AddDevice(wire::AddDevice { label: label.to_owned() });
        let take = |answer: &mut Option<wire::Registered>, _, what| match what {
            What::Registered(registered) => {
                *answer = Some(registered);
                Ok(true)
            }
            _ => Err(ClientError::Protocol("an answer of another kind".to_owned())),
        };
        let unreadable = || ClientError::Protocol("an unreadable Registered".to_owned());
        let registered = self.shared().request(request, take).await?.ok_or_else(unreadable)?;
        Ok(Identity {
            user: UserId::from_slice(&registered.user).map_err(|_| unreadable())?,
            user_name: user_name.to_owned(),
            device: DeviceId::from_slice(&registered.device).map_err(|_| unreadable())?,
            secret: <[u8; 32]>::try_from(registered.device_secret.as_ref())
                .map(Secret::new)
                .map_err(|_| unreadable())?,
        })
    }
}
