//! API tokens: who may use the REST API. Kept without their secrets.

use sqlx::{Postgres, Transaction};
use tidegate_core::snapshot::Fingerprint;
use time::OffsetDateTime;

use super::joining::audit;
use super::{Store, StoreError, broken, fingerprint};
use crate::model::{ApiRole, Author};

/// A token to keep.
pub(crate) struct NewApiToken {
    pub(crate) id: String,
    pub(crate) secret_hash: Fingerprint,
    pub(crate) role: ApiRole,
    pub(crate) label: String,
    pub(crate) expires_at: OffsetDateTime,
}

/// What is known of a token that somebody shows. Its hash is not for lists.
pub(crate) struct KnownApiToken {
    pub(crate) id: String,
    pub(crate) secret_hash: Fingerprint,
    pub(crate) role: ApiRole,
    pub(crate) label: String,
    pub(crate) expires_at: OffsetDateTime,
}

/// A token in a list.
pub(crate) struct StoredApiToken {
    pub(crate) id: String,
    pub(crate) role: ApiRole,
    pub(crate) label: String,
    pub(crate) created_by: String,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) expires_at: OffsetDateTime,
}

/// The right to make the first token, held until it is dropped: whoever asks
/// meanwhile waits.
pub(crate) struct FirstApiToken {
    transaction: Transaction<'static, Postgres>,
}

impl Store {
    /// What is known of a token.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn api_token(&self, id: &str) -> Result<Option<KnownApiToken>, StoreError> {
        let row = sqlx::query!(
            "select secret_hash, role, label, expires_at from api_tokens where id = $1",
            id
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(KnownApiToken {
                id: id.to_owned(),
                secret_hash: fingerprint(&row.secret_hash)?,
                role: role(&row.role)?,
                label: row.label,
                expires_at: row.expires_at,
            })
        })
        .transpose()
    }

    /// All tokens, youngest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn api_tokens(&self) -> Result<Vec<StoredApiToken>, StoreError> {
        let rows = sqlx::query!(
            "select id, role, label, created_by, created_at, expires_at from api_tokens
             order by created_at desc, id"
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(StoredApiToken {
                    id: row.id,
                    role: role(&row.role)?,
                    label: row.label,
                    created_by: row.created_by,
                    created_at: row.created_at,
                    expires_at: row.expires_at,
                })
            })
            .collect()
    }

    /// Keeps a new token; answers it as lists will.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn add_api_token(
        &self,
        author: &Author,
        new: &NewApiToken,
    ) -> Result<StoredApiToken, StoreError> {
        let mut transaction = self.begin("begin").await?;
        let stored = add(&mut transaction, author, new).await?;
        transaction.commit().await?;
        Ok(stored)
    }

    /// Removes a token: it is refused from now on. Whether there was one.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn remove_api_token(
        &self,
        author: &Author,
        id: &str,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin("begin").await?;
        let removed = sqlx::query!("delete from api_tokens where id = $1", id)
            .execute(&mut *transaction)
            .await?
            .rows_affected()
            > 0;
        if removed {
            audit(
                &mut transaction,
                author,
                "remove",
                &format!("api-tokens/{id}"),
            )
            .await?;
            transaction.commit().await?;
        }
        Ok(removed)
    }

    /// The right to make the first token; `None` where an admin's token is valid:
    /// its owner makes the others, and without one nobody could any more. Under
    /// the cluster's lock, so that of two control planes that start at once one
    /// gets it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn first_api_token(
        &self,
        now: OffsetDateTime,
    ) -> Result<Option<FirstApiToken>, StoreError> {
        let mut transaction = self.begin("begin").await?;
        sqlx::query!("select one from cluster for update")
            .fetch_one(&mut *transaction)
            .await?;
        let there = sqlx::query_scalar!(
            "select exists (select from api_tokens where role = 'admin' and expires_at > $1)
             as \"there!\"",
            now
        )
        .fetch_one(&mut *transaction)
        .await?;
        Ok((!there).then_some(FirstApiToken { transaction }))
    }
}

impl FirstApiToken {
    /// Adds the token; it counts when committed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn add(&mut self, new: &NewApiToken) -> Result<(), StoreError> {
        add(&mut self.transaction, &Author::control_plane(), new).await?;
        Ok(())
    }

    /// Makes it so.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        Ok(self.transaction.commit().await?)
    }
}

async fn add(
    transaction: &mut Transaction<'static, Postgres>,
    author: &Author,
    new: &NewApiToken,
) -> Result<StoredApiToken, StoreError> {
    let row = sqlx::query!(
        "insert into api_tokens (id, secret_hash, role, label, created_by, expires_at)
         values ($1, $2, $3, $4, $5, $6) returning created_at, expires_at",
        new.id,
        new.secret_hash.as_bytes().as_slice(),
        new.role.as_str(),
        new.label,
        author.0,
        new.expires_at
    )
    .fetch_one(&mut **transaction)
    .await?;
    let subject = format!("api-tokens/{}", new.id);
    audit(transaction, author, "create", &subject).await?;
    Ok(StoredApiToken {
        id: new.id.clone(),
        role: new.role,
        label: new.label.clone(),
        created_by: author.0.clone(),
        created_at: row.created_at,
        expires_at: row.expires_at,
    })
}

pub(super) fn role(stored: &str) -> Result<ApiRole, StoreError> {
    ApiRole::from_text(stored).ok_or_else(|| broken("an API token's role", stored))
}
