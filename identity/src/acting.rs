//! For whom a call is made: a token may name another user and an organisation (contract §2, D21).

use coffre_store::{OrgId, UserId};
use uuid::Uuid;

use crate::Identity;
use crate::error::{Error, Result};
use crate::token::TokenHolder;

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acting {
    /// The user.
    pub user: UserId,
    /// The organisation it is a member of.
    pub organisation: OrgId,
}

impl Identity {
    /// Whether a token may act for this user in this organisation: the user itself may, a member of the organisation,
    /// a service token with `act_as`, and an ADMIN. The user has to be a member in any case.
    ///
    /// # Errors
    /// `Denied`, also where user or organisation are not known: a stranger learns nothing of them.
    pub async fn act_for(&self, holder: &TokenHolder, user: &str, organisation: &str) -> Result<Acting> {
        let id = |text: &str| Uuid::parse_str(text).map_err(|_| Error::Denied);
        let user = UserId(id(user.strip_prefix("user_").unwrap_or(user))?);
        let organisation = OrgId(id(organisation)?);
        let principal = &holder.principal;
        let may = holder.user == user
            || holder.may_act_as
            || principal.is_admin
            || principal.organisations.contains(&organisation);
        if !may {
            return Err(Error::Denied);
        }
        let subject = self.user_by_id(user).await?.filter(|user| !user.is_disabled).ok_or(Error::Denied)?;
        let is_member = self.principal(&subject).await?.organisations.contains(&organisation);
        if is_member { Ok(Acting { user, organisation }) } else { Err(Error::Denied) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sample::{identity, system};
    use crate::{NewToken, NewUser, Role};

    #[tokio::test]
    async fn who_may_act_for_whom() {
        let identity = identity(Arc::new(coffre_kv::memory::Memory::new())).await;
        let cx = system();
        let user = async |name: &str, role| {
            let new = NewUser { name: name.into(), email: None, role };
            identity.create_user(&cx, new).await.unwrap().id
        };
        let token = async |user, may_act_as| {
            let new = NewToken { may_act_as, ..NewToken::of(user, "t") };
            let issued = identity.create_token(&cx, new).await.unwrap();
            identity.find_bearer(issued.text.expose()).await.unwrap().unwrap()
        };
        let (ann, bob, eve) =
            (user("ann", Role::User).await, user("bob", Role::User).await, user("eve", Role::User).await);
        let (admin, service) = (user("root", Role::Admin).await, user("app", Role::App).await);
        let org = identity.create_org(&cx, "org").await.unwrap().id;
        let other = identity.create_org(&cx, "other").await.unwrap().id;
        identity.add_member(&cx, org, ann).await.unwrap();
        identity.add_member(&cx, org, bob).await.unwrap();
        for (caller, may_act_as, for_whom, within, allowed) in [
            (ann, false, ann, org, true),
            (bob, false, ann, org, true),
            (eve, false, ann, org, false),
            (admin, false, ann, org, true),
            (service, true, ann, org, true),
            (service, false, ann, org, false),
            (service, true, eve, org, false),
            (admin, false, ann, other, false),
            (eve, false, eve, org, false),
            (admin, false, ann, OrgId(Uuid::nil()), false),
            (admin, false, UserId(Uuid::nil()), org, false),
        ] {
            let holder = token(caller, may_act_as).await;
            let acting = identity.act_for(&holder, &for_whom.to_string(), &within.to_string()).await;
            assert_eq!(acting.is_ok(), allowed, "{caller} for {for_whom} in {within}");
        }
        let holder = token(ann, false).await;
        assert!(identity.act_for(&holder, "ann", &org.to_string()).await.is_err());
        let prefixed = identity.act_for(&holder, &format!("user_{ann}"), &org.to_string()).await.unwrap();
        assert_eq!(prefixed, Acting { user: ann, organisation: org });
    }
}
