//! Browsers that are logged in. Kept without their secrets; a session ends with the
//! API token that it was begun with.

use tidegate_core::snapshot::Fingerprint;
use time::OffsetDateTime;

use super::api_tokens::{KnownApiToken, role};
use super::joining::audit;
use super::{Store, StoreError, fingerprint};
use crate::model::Author;

/// Of one API token; the oldest ends for one more.
const MOST: i64 = 64;

/// A session to keep.
pub(crate) struct NewSession {
    pub(crate) id: String,
    pub(crate) secret_hash: Fingerprint,
    /// The id of the token that it was begun with.
    pub(crate) api_token: String,
    pub(crate) expires_at: OffsetDateTime,
}

/// What is known of a session whose cookie somebody shows.
pub(crate) struct KnownSession {
    pub(crate) secret_hash: Fingerprint,
    /// The token's end, or before.
    pub(crate) expires_at: OffsetDateTime,
    pub(crate) token: KnownApiToken,
}

impl Store {
    /// What is known of a session.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn session(&self, id: &str) -> Result<Option<KnownSession>, StoreError> {
        let row = sqlx::query!(
            r#"select s.secret_hash, least(s.expires_at, t.expires_at) as "expires_at!",
                      t.id as token, t.secret_hash as token_hash, t.role, t.label,
                      t.expires_at as token_expires_at
               from sessions s join api_tokens t on t.id = s.api_token where s.id = $1"#,
            id
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(KnownSession {
                secret_hash: fingerprint(&row.secret_hash)?,
                expires_at: row.expires_at,
                token: KnownApiToken {
                    id: row.token,
                    secret_hash: fingerprint(&row.token_hash)?,
                    role: role(&row.role)?,
                    label: row.label,
                    expires_at: row.token_expires_at,
                },
            })
        })
        .transpose()
    }

    /// Keeps a new session.
    ///
    /// # Errors
    /// When the database does not answer, or the token has gone meanwhile.
    pub(crate) async fn begin_session(
        &self,
        author: &Author,
        new: &NewSession,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin("begin").await?;
        sqlx::query!(
            "insert into sessions (id, secret_hash, api_token, expires_at) values ($1, $2, $3, $4)",
            new.id,
            new.secret_hash.as_bytes().as_slice(),
            new.api_token,
            new.expires_at
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "delete from sessions where id in
             (select id from sessions where api_token = $1
              order by created_at desc, id desc offset $2)",
            new.api_token,
            MOST
        )
        .execute(&mut *transaction)
        .await?;
        let subject = format!("sessions/{}", new.id);
        audit(&mut transaction, author, "log in", &subject).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Ends a session: its cookie is refused from now on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn end_session(&self, author: &Author, id: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin("begin").await?;
        let ended = sqlx::query!("delete from sessions where id = $1", id)
            .execute(&mut *transaction)
            .await?;
        if ended.rows_affected() > 0 {
            audit(
                &mut transaction,
                author,
                "log out",
                &format!("sessions/{id}"),
            )
            .await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}
