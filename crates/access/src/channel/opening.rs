//! What any channel has beside what it was sent: the token that keeps it open, and what it was told about knowledge.

use thiserror::Error;
use uuid::Uuid;

use crate::access::View;
use crate::channel::push::DisconnectReason;
use crate::rows::last_second;

/// Why a channel cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("no such client or gateway is live in this account")]
    NotLive,
    #[error("no token was given, and the row names none that was last used")]
    NoToken,
    #[error("the token is unknown or not live")]
    TokenNotLive,
    #[error("the token has expired")]
    TokenExpired,
}

/// Why a channel is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Refused(Refusal),
    Disconnected(DisconnectReason),
}

/// What a channel was told about what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// That it is up to date, or nothing.
    Fresh,
    Stale,
    NotAssigned,
}

#[derive(Debug)]
pub(crate) struct Opening {
    /// The token that was given, or what the row last used when the channel was let in; not followed afterwards.
    token: Option<Uuid>,
    /// It was found that the channel may be open.
    admitted: bool,
    pub(crate) told: Told,
    /// Something was kept from the channel: it is compared in full when it may be told.
    pub(crate) behind: bool,
    /// The reader of the channel is too slow: differences are folded until it has caught up.
    pub(crate) paused: bool,
}

impl Opening {
    pub(crate) fn new(token: Option<Uuid>) -> Self {
        Self { token, admitted: false, told: Told::Fresh, behind: false, paused: false }
    }

    pub(crate) fn token(&self) -> Option<Uuid> {
        self.token
    }

    /// Whether the channel may be open. `last_used`: the token that its row names, None where the row, or something it
    /// stands on, is not live.
    pub(crate) fn check(&mut self, view: &View<'_>, last_used: Option<Option<Uuid>>) -> Result<(), Over> {
        match self.refusal(view, last_used) {
            None => {
                self.admitted = true;
                Ok(())
            }
            Some(refusal) if self.admitted => Err(Over::Disconnected(refusal.into())),
            Some(refusal) => Err(Over::Refused(refusal)),
        }
    }

    /// As `check`, where rows may be missing still: what was never let in is neither let in nor refused for it.
    pub(crate) fn check_held(&mut self, view: &View<'_>, last_used: Option<Option<Uuid>>) -> Result<(), Over> {
        match self.check(view, last_used) {
            Err(Over::Refused(_)) => Ok(()),
            checked => checked,
        }
    }

    fn refusal(&mut self, view: &View<'_>, last_used: Option<Option<Uuid>>) -> Option<Refusal> {
        let Some(last_used) = last_used else { return Some(Refusal::NotLive) };
        self.token = self.token.or(last_used);
        let Some(token) = self.token else { return Some(Refusal::NoToken) };
        match view.state.tokens.row(token).filter(|token| token.live) {
            None => Some(Refusal::TokenNotLive),
            Some(token) => view.expired(last_second(token.expires_at)).then_some(Refusal::TokenExpired),
        }
    }
}

impl From<Refusal> for DisconnectReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLive => DisconnectReason::Revoked,
            Refusal::NoToken | Refusal::TokenNotLive | Refusal::TokenExpired => DisconnectReason::TokenExpired,
        }
    }
}
