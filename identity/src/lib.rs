//! Who is asking, and may they.
//!
//! Owns users, organisations and grants (`people`, `acting`), S3 access keys (`key`), bearer tokens (`token`), JWTs of
//! other issuers (`jwt`), signed links of the REST door (`link`) and to the S3 door ([`presign`]), the master key and
//! sealing (`master`, `seal`), the rules (`rules`, [`policy`]) behind [`coffre_store::Authority`], and the audit
//! log ([`audit`]). Every change here is one commit with checks and an audit note; secrets stand in no note, log,
//! error or `Debug`.
//! Leaves out: how a door authenticates (signatures are the door's), and what objects are.

mod acting;
pub mod audit;
mod authority;
mod bootstrap;
mod codec;
mod error;
mod jwt;
mod key;
mod link;
pub mod master;
mod people;
pub mod policy;
pub mod presign;
mod rules;
mod seal;
mod token;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use coffre_kv::{Check, Commit, Kv, Position, Write};
use coffre_store::object::BuiltInNames;
use coffre_store::watch::Note;
use coffre_store::{Authority, Clock, Cx, Ids};

pub use acting::Acting;
pub use bootstrap::FirstAdmin;
pub use error::{Error, Result};
pub use jwt::{FetchKeys, Issuer, IssuerKeys};
pub use key::{KeyHolder, KeyInfo, NewKey};
pub use master::MasterKey;
pub use people::{NewUser, Organisation, Role, User};
pub use seal::Secret;
pub use token::{IssuedToken, NewToken, PERMISSIONS, TokenHolder, TokenInfo};

use codec::Kind;

/// How often a change is decided again when others were quicker.
const ATTEMPTS: usize = 16;
/// Most rows one listing here reads.
pub const LIST_MAX: usize = 10_000;

/// What [`Identity::open`] is given.
#[derive(Clone, Debug)]
pub struct Options {
    /// The rows.
    pub kv: Arc<dyn Kv>,
    /// What secrets are sealed under.
    pub master_key: MasterKey,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// Names of the built-in buckets.
    pub built_in: BuiltInNames,
    /// Anonymous may read what is in the gateway's bucket (contract §5.1); not list it.
    pub gateway_public_read: bool,
}

/// Users, keys, tokens and rights. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Identity {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: Options,
    authority: Arc<authority::Rules>,
    holders: key::Holders,
    issuers: OnceLock<jwt::Issuers>,
}

impl Identity {
    /// Opens the rows of `options.kv`.
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`] when secrets there were sealed under another key.
    pub async fn open(options: Options) -> Result<Self> {
        let row = codec::key(Kind::Check, &[]);
        if options.kv.get(&row).await?.is_none() {
            let check = Write::Put(row.clone(), options.master_key.check()?.into());
            let commit =
                Commit { checks: vec![Check::Absent(row.clone())], writes: vec![check], ..Commit::default() };
            match options.kv.commit(commit).await {
                // Somebody else was first; theirs is verified below.
                Ok(_) | Err(coffre_kv::Error::Conflict { .. }) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let check = options.kv.get(&row).await?.ok_or(Error::Busy)?;
        options.master_key.verify(&check.value)?;
        let inner = Inner {
            authority: Arc::new(authority::Rules::new(options.gateway_public_read)),
            options,
            holders: key::Holders::default(),
            issuers: OnceLock::new(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The rules, for the store and the doors.
    pub fn authority(&self) -> Arc<dyn Authority> {
        Arc::clone(&self.inner.authority) as Arc<dyn Authority>
    }

    fn kv(&self) -> &dyn Kv {
        &*self.inner.options.kv
    }

    fn master(&self) -> &MasterKey {
        &self.inner.options.master_key
    }

    fn now_ms(&self) -> u64 {
        self.inner.options.clock.now_ms()
    }

    fn new_id(&self) -> uuid::Uuid {
        uuid::Uuid::from_bytes(self.inner.options.ids.next())
    }

    /// One commit with its audit line. Touches the generation row, so that every cache of every process notices.
    async fn change(
        &self,
        cx: &Cx,
        action: &str,
        subject: &str,
        checks: Vec<Check>,
        mut writes: Vec<Write>,
    ) -> coffre_kv::Result<()> {
        writes.push(Write::Put(codec::key(Kind::Generation, &[]), Bytes::new()));
        let note = Note::of(cx, action, None, Some(subject)).encode();
        self.kv().commit(Commit { checks, writes, note, ..Commit::default() }).await.map(drop)
    }

    /// A line of the audit log about something that changes nothing (a download). It survives the death of the
    /// process; a power cut may lose it, as nothing was changed that it would have to tell of.
    ///
    /// # Errors
    /// `NoSpace`, `Stopped`.
    pub async fn note(&self, cx: &Cx, action: &str, bucket: Option<&str>, key: Option<&str>) -> Result<()> {
        let note = Note::of(cx, action, bucket, key).encode();
        let commit = Commit { note, wait: coffre_kv::Wait::Ordered, ..Commit::default() };
        self.kv().commit(commit).await?;
        Ok(())
    }

    /// Where the last change of anything here stands.
    async fn generation(&self) -> Result<Position> {
        let row = self.kv().get(&codec::key(Kind::Generation, &[])).await?;
        Ok(row.map_or(Position::default(), |row| row.position))
    }
}

/// Only an ADMIN, or the daemon itself.
fn admin_only(cx: &Cx) -> Result<()> {
    if cx.principal.is_admin { Ok(()) } else { Err(Error::Denied) }
}

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
