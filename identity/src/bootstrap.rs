//! The first start: makes an ADMIN, its token and its access key.
//!
//! **A crash never locks the operator out.** The commit that makes the ADMIN also keeps the clear credentials, sealed,
//! in the `first admin` row. Until [`Identity::bootstrap_written`] deletes it (once `credentials.json` is durable),
//! every [`Identity::bootstrap`] answers the same credentials. So: no row and no users → nothing happened; row →
//! write the file (again); no row and users → all done.

use std::sync::Arc;

use coffre_kv::{Check, KvExt as _, Range, Scan, Write};
use coffre_store::object::{Circumstances, Door, Principal};
use coffre_store::{Cx, UserId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::codec::{self, Kind};
use crate::error::Result;
use crate::key::KeyRows;
use crate::people::{NewUser, Role, UserRows};
use crate::seal::{self, Secret};
use crate::token::{NewToken, TokenRows};
use crate::{ATTEMPTS, Error, Identity};

/// Name of the ADMIN made at first start.
const NAME: &str = "admin";

/// What `credentials.json` tells.
#[derive(Clone, Debug)]
pub struct FirstAdmin {
    /// The ADMIN.
    pub user_id: UserId,
    /// Its bearer token.
    pub token: Secret,
    /// Its access key.
    pub access_key_id: String,
    /// The key's secret.
    pub secret_access_key: Secret,
}

#[derive(Serialize, Deserialize)]
struct Pending<'a> {
    user: UserId,
    token: &'a str,
    access_key_id: &'a str,
    secret_access_key: &'a str,
}

impl Identity {
    /// Makes the first ADMIN when there is no user; answers its credentials until [`Self::bootstrap_written`].
    /// `None` from then on.
    pub async fn bootstrap(&self) -> Result<Option<FirstAdmin>> {
        for _ in 0..ATTEMPTS {
            let users = Scan::forward(Range::prefix(codec::key(Kind::User, &[]))).keys_only();
            // Users first: the row came in the same commit as the first of them.
            if !self.kv().rows(users, 1).await?.is_empty() {
                let row = self.kv().get(&codec::key(Kind::FirstAdmin, &[])).await?;
                return row.map(|row| self.open_pending(&row.value)).transpose();
            }
            match self.make_first_admin().await {
                Ok(admin) => return Ok(Some(admin)),
                // Somebody else was first: read again.
                Err(Error::Busy) => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::Busy)
    }

    /// Forgets the clear credentials: call it once they are durable where the operator finds them.
    pub async fn bootstrap_written(&self) -> Result<()> {
        let row = codec::key(Kind::FirstAdmin, &[]);
        if self.kv().get(&row).await?.is_none() {
            return Ok(());
        }
        let cx = self.first_start();
        Ok(self.change(&cx, "WriteCredentials", NAME, vec![], vec![Write::Delete(row)]).await?)
    }

    async fn make_first_admin(&self) -> Result<FirstAdmin> {
        let cx = self.first_start();
        let new = NewUser { name: NAME.into(), email: None, role: Role::Admin };
        let UserRows { user, checks: mut user_checks, mut writes } = self.user_rows(cx.now_ms, &new).await?;
        let KeyRows { new: key, check: key_check, writes: key_writes } = self.key_rows(cx.now_ms, user.id)?;
        let TokenRows { issued, check: token_check, writes: token_writes } =
            self.token_rows(cx.now_ms, NewToken::of(user.id, "first start"))?;
        let admin = FirstAdmin {
            user_id: user.id,
            token: issued.text,
            access_key_id: key.access_key_id,
            secret_access_key: key.secret_access_key,
        };
        let row = codec::key(Kind::FirstAdmin, &[]);
        user_checks.extend([
            key_check,
            token_check,
            Check::PrefixEmpty(codec::key(Kind::User, &[])),
            Check::Absent(row.clone()),
        ]);
        writes.extend(key_writes);
        writes.extend(token_writes);
        writes.push(Write::Put(row, self.seal_pending(&admin)?.into()));
        self.change(&cx, "CreateFirstAdmin", &user.id.to_string(), user_checks, writes).await?;
        Ok(admin)
    }

    fn seal_pending(&self, admin: &FirstAdmin) -> Result<Vec<u8>> {
        let pending = Pending {
            user: admin.user_id,
            token: admin.token.expose(),
            access_key_id: &admin.access_key_id,
            secret_access_key: admin.secret_access_key.expose(),
        };
        let clear = postcard::to_allocvec(&pending)
            .map(Zeroizing::new)
            .map_err(|e| Error::Internal { doing: "encoding the first credentials", source: e.into() })?;
        seal::seal(self.master(), "first admin", "", &clear)
    }

    fn open_pending(&self, sealed: &[u8]) -> Result<FirstAdmin> {
        let clear = seal::open(self.master(), "first admin", "", sealed)?;
        let pending: Pending<'_> = postcard::from_bytes(&clear).map_err(|_| Error::BadSeal)?;
        Ok(FirstAdmin {
            user_id: pending.user,
            token: Secret::new(pending.token.to_owned()),
            access_key_id: pending.access_key_id.to_owned(),
            secret_access_key: Secret::new(pending.secret_access_key.to_owned()),
        })
    }

    /// The daemon's own context at first start.
    fn first_start(&self) -> Cx {
        Cx {
            principal: Arc::new(Principal::system()),
            door: Door::Control,
            request_id: "first-start".into(),
            now_ms: self.now_ms(),
            circumstances: Arc::new(Circumstances::default()),
        }
    }
}
