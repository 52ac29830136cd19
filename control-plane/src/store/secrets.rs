//! Certificates: chains in the clear, keys sealed. A key leaves here only sealed,
//! and only for the link, by the fingerprint of its chain.

use tidegate_core::document::Name;
use tidegate_core::snapshot::Fingerprint;
use time::OffsetDateTime;

use super::{Store, StoreError, Writing, fingerprint};
use crate::model::{AgentId, UploadedCertificate};

/// A certificate to keep.
pub(crate) struct NewCertificate {
    pub(crate) name: Name,
    pub(crate) chain: String,
    pub(crate) key_sealed: Vec<u8>,
    pub(crate) dns_names: Vec<String>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

impl NewCertificate {
    /// SHA-256 of its chain as PEM: what a snapshot names it by.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.chain.as_bytes())
    }
}

impl Store {
    /// The certificates in use, by name: of each the one uploaded last.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn certificates(&self) -> Result<Vec<UploadedCertificate>, StoreError> {
        let rows = sqlx::query!(
            "select distinct on (name) name, fingerprint, chain, dns_names, not_before, not_after,
                    uploaded_by, uploaded_at
             from certificate_versions order by name, number desc"
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(UploadedCertificate {
                    name: row.name,
                    fingerprint: fingerprint(&row.fingerprint)?,
                    chain: row.chain,
                    dns_names: row.dns_names,
                    not_before: row.not_before,
                    not_after: row.not_after,
                    uploaded_by: row.uploaded_by,
                    uploaded_at: row.uploaded_at,
                })
            })
            .collect()
    }

    /// Sealed keys for an agent, by the fingerprints of their chains; those that
    /// are not there are left out, and an agent that is no terminator gets none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn sealed_keys(
        &self,
        agent: AgentId,
        fingerprints: &[Fingerprint],
    ) -> Result<Vec<(Fingerprint, Vec<u8>)>, StoreError> {
        let wanted: Vec<Vec<u8>> = fingerprints.iter().map(|f| f.as_bytes().to_vec()).collect();
        let rows = sqlx::query!(
            "select distinct on (fingerprint) fingerprint, key_sealed from certificate_versions
             where fingerprint = any($1) and exists
             (select from agents where id = $2 and revoked_at is null
              and 'terminator' = any(roles))",
            &wanted,
            agent.0
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| Ok((fingerprint(&row.fingerprint)?, row.key_sealed)))
            .collect()
    }

    /// Writes down that an agent is about to hold these keys: before they are
    /// sent, so that what may have been lost is never told too small.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn delivering_keys(
        &self,
        agent: AgentId,
        fingerprints: &[Fingerprint],
    ) -> Result<(), StoreError> {
        let sent: Vec<Vec<u8>> = fingerprints.iter().map(|f| f.as_bytes().to_vec()).collect();
        sqlx::query!(
            "insert into key_deliveries (agent, fingerprint, name)
             select $1, v.fingerprint, v.name from certificate_versions v
             where v.fingerprint = any($2)
             on conflict do nothing",
            agent.0,
            &sent
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

impl Writing {
    /// Makes this the version in use. The same chain again changes nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn upload_certificate(
        &mut self,
        new: &NewCertificate,
    ) -> Result<(), StoreError> {
        let print = new.fingerprint();
        let in_use = sqlx::query_scalar!(
            "select fingerprint from certificate_versions where name = $1
             order by number desc limit 1",
            new.name.as_str()
        )
        .fetch_optional(&mut *self.transaction)
        .await?;
        if in_use.as_deref() == Some(print.as_bytes().as_slice()) {
            return Ok(());
        }
        // A chain that was here before comes back as the youngest version.
        sqlx::query!(
            "delete from certificate_versions where name = $1 and fingerprint = $2",
            new.name.as_str(),
            print.as_bytes().as_slice()
        )
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query!(
            "insert into certificate_versions
             (name, fingerprint, chain, key_sealed, dns_names, not_before, not_after, uploaded_by)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            new.name.as_str(),
            print.as_bytes().as_slice(),
            new.chain,
            new.key_sealed,
            &new.dns_names,
            new.not_before,
            new.not_after,
            self.author().0.clone()
        )
        .execute(&mut *self.transaction)
        .await?;
        self.note("upload", &format!("certificates/{}", new.name));
        Ok(())
    }

    /// Deletes all versions of a certificate; whether there were any. That no
    /// document names it is the caller's to see to.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn delete_certificate(&mut self, name: &Name) -> Result<bool, StoreError> {
        let deleted = sqlx::query!(
            "delete from certificate_versions where name = $1",
            name.as_str()
        )
        .execute(&mut *self.transaction)
        .await?
        .rows_affected()
            > 0;
        if deleted {
            self.note("delete", &format!("certificates/{name}"));
        }
        Ok(deleted)
    }
}
