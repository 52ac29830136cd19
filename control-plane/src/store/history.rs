//! Revisions: every document there was, whole.

use sqlx::PgConnection;
use tidegate_core::document::Document;
use time::OffsetDateTime;

use super::{Store, StoreError, Writing, broken, document, signed, unsigned};

/// One document there was, and who made it so.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    pub(crate) number: u64,
    pub(crate) author: String,
    /// What was done: `apply config`, `put pools/game`, `rollback revisions/7`.
    pub(crate) action: String,
    pub(crate) created_at: OffsetDateTime,
}

impl Store {
    /// The youngest `limit` revisions before number `before`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn revisions(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Revision>, StoreError> {
        let rows = sqlx::query!(
            "select number, author, action, created_at from revisions
             where number < $1 order by number desc limit $2",
            before.map_or(i64::MAX, signed),
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Revision {
                number: unsigned(row.number),
                author: row.author,
                action: row.action,
                created_at: row.created_at,
            })
            .collect())
    }

    /// A revision with its document, as it was written.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn revision(
        &self,
        number: u64,
    ) -> Result<Option<(Revision, serde_json::Value)>, StoreError> {
        let row = sqlx::query!(
            "select number, author, action, created_at, document from revisions where number = $1",
            signed(number)
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| {
            let revision = Revision {
                number: unsigned(row.number),
                author: row.author,
                action: row.action,
                created_at: row.created_at,
            };
            (revision, row.document)
        }))
    }

    /// Two documents there were, to compare; number 0 is the empty one.
    ///
    /// # Errors
    /// When the database does not answer, or one is no document any more.
    pub(crate) async fn two_revisions(
        &self,
        from: u64,
        to: u64,
    ) -> Result<Option<(Document, Document)>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let old = past_document(&mut connection, from).await?;
        let new = past_document(&mut connection, to).await?;
        Ok(old.zip(new))
    }
}

impl Writing {
    /// The document of a revision as written, to apply again.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn past(
        &mut self,
        number: u64,
    ) -> Result<Option<serde_json::Value>, StoreError> {
        let tree = sqlx::query_scalar!(
            "select document from revisions where number = $1",
            signed(number)
        )
        .fetch_optional(&mut *self.transaction)
        .await?;
        Ok(tree)
    }
}

/// Certificates that were deleted since do not make an old document unreadable.
async fn past_document(
    connection: &mut PgConnection,
    number: u64,
) -> Result<Option<Document>, StoreError> {
    if number == 0 {
        return Ok(Some(Document::default()));
    }
    let tree = sqlx::query_scalar!(
        "select document from revisions where number = $1",
        signed(number)
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(tree) = tree else {
        return Ok(None);
    };
    let mut named = document::uploaded(connection).await?;
    let names = tree.pointer("/listeners").and_then(|l| l.as_array());
    let names = names.into_iter().flatten();
    let names = names.filter_map(|l| l.pointer("/tls/certificates")?.as_array());
    let declared = tree.pointer("/certificates").and_then(|c| c.as_array());
    let declared = declared.into_iter().flatten().filter_map(|c| c.get("name"));
    named.extend(
        names
            .flatten()
            .chain(declared)
            .filter_map(|n| n.as_str()?.parse().ok()),
    );
    Document::of_fleet(tree, &named)
        .map(Some)
        .map_err(|mistakes| broken(&format!("revision {number}"), mistakes.len()))
}
