//! The document as rows, a table per kind: put together for reading, taken apart
//! for writing. The rows are the truth; `revisions` keeps each whole document.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use tidegate_core::document::{Document, Name};

use super::{Store, StoreError, broken};
use crate::model::Numbers;

impl Store {
    /// The document, and where numbers stood when it was that.
    ///
    /// # Errors
    /// When the database does not answer, or holds what is no document.
    pub(crate) async fn document(&self) -> Result<(Numbers, Document), StoreError> {
        let read = "begin isolation level repeatable read read only";
        let mut transaction = self.begin(read).await?;
        let numbers = numbers(&mut transaction).await?;
        let document = load(&mut transaction).await?;
        Ok((numbers, document))
    }
}

/// Where numbers stand, without the lock.
async fn numbers(connection: &mut PgConnection) -> Result<Numbers, StoreError> {
    let row = sqlx::query!("select epoch, change, revision from cluster")
        .fetch_one(connection)
        .await?;
    Ok(Numbers {
        epoch: row.epoch,
        change: super::unsigned(row.change),
        revision: super::unsigned(row.revision),
    })
}

/// Puts the rows together.
pub(super) async fn load(connection: &mut PgConnection) -> Result<Document, StoreError> {
    let listeners = sqlx::query_scalar!("select spec from listeners order by position, name")
        .fetch_all(&mut *connection)
        .await?;
    let pools = sqlx::query!("select name, spec from pools order by position, name")
        .fetch_all(&mut *connection)
        .await?;
    let backends = sqlx::query!("select pool, spec from backends order by pool, position, name")
        .fetch_all(&mut *connection)
        .await?;
    let policies = sqlx::query_scalar!("select spec from policies order by position, name")
        .fetch_all(&mut *connection)
        .await?;
    let certificates = sqlx::query_scalar!("select name from certificates order by position, name")
        .fetch_all(&mut *connection)
        .await?;

    let mut by_pool: std::collections::HashMap<String, Vec<Value>> = Default::default();
    for row in backends {
        by_pool.entry(row.pool).or_default().push(row.spec);
    }
    let pools: Vec<Value> = pools
        .into_iter()
        .map(|row| with_backends(row.spec, by_pool.remove(&row.name)))
        .collect();
    let certificates: Vec<Value> = certificates
        .into_iter()
        .map(|name| json!({ "name": name }))
        .collect();
    let tree = json!({
        "listeners": listeners,
        "pools": pools,
        "policies": policies,
        "certificates": certificates,
    });
    let uploaded = uploaded(connection).await?;
    Document::of_fleet(tree, &uploaded).map_err(|mistakes| {
        let said: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        broken("the document", said.join("; "))
    })
}

/// Names of all certificates that were uploaded.
pub(super) async fn uploaded(connection: &mut PgConnection) -> Result<BTreeSet<Name>, StoreError> {
    let names = sqlx::query_scalar!("select distinct name from certificate_versions")
        .fetch_all(connection)
        .await?;
    names
        .iter()
        .map(|name| name.parse().map_err(|why| broken("a certificate", why)))
        .collect()
}

fn with_backends(mut pool: Value, backends: Option<Vec<Value>>) -> Value {
    if let (Some(fields), Some(backends)) = (pool.as_object_mut(), backends) {
        fields.insert("backends".into(), backends.into());
    }
    pool
}

/// Rows of one kind, column by column, for `unnest`.
#[derive(Default)]
struct Rows {
    names: Vec<String>,
    positions: Vec<i32>,
    specs: Vec<Value>,
}

impl Rows {
    fn of<'a, T: Serialize + 'a>(
        resources: impl IntoIterator<Item = (&'a Name, &'a T)>,
    ) -> Result<Self, StoreError> {
        let mut rows = Self::default();
        for (position, (name, resource)) in (0..).zip(resources) {
            rows.names.push(name.to_string());
            rows.positions.push(position);
            rows.specs.push(spec(resource)?);
        }
        Ok(rows)
    }
}

fn spec(resource: &impl Serialize) -> Result<Value, StoreError> {
    serde_json::to_value(resource).map_err(|why| broken("a resource", why))
}

/// Takes the document apart. Rows that stay as they are stay untouched.
pub(super) async fn save(
    connection: &mut PgConnection,
    document: &Document,
) -> Result<(), StoreError> {
    save_listeners(connection, document).await?;
    save_pools(connection, document).await?;
    save_policies(connection, document).await?;
    let names: Vec<String> = names(&document.certificates, |c| &c.name);
    sqlx::query!("delete from certificates where name <> all($1)", &names)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "insert into certificates (name, position)
         select name, ordinality::int from unnest($1::text[]) with ordinality as t(name, ordinality)
         on conflict (name) do update set position = excluded.position",
        &names
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn names<T>(resources: &[T], name: impl Fn(&T) -> &Name) -> Vec<String> {
    resources.iter().map(|r| name(r).to_string()).collect()
}

async fn save_listeners(
    connection: &mut PgConnection,
    document: &Document,
) -> Result<(), StoreError> {
    let rows = Rows::of(document.listeners.iter().map(|l| (&l.name, l)))?;
    let roles: Vec<String> = document
        .listeners
        .iter()
        .map(|l| l.role.to_string())
        .collect();
    sqlx::query!("delete from listeners where name <> all($1)", &rows.names)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "insert into listeners as old (name, position, role, spec)
         select * from unnest($1::text[], $2::int[], $3::text[], $4::jsonb[])
         on conflict (name) do update
         set position = excluded.position, role = excluded.role, spec = excluded.spec
         where (old.position, old.role, old.spec)
               is distinct from (excluded.position, excluded.role, excluded.spec)",
        &rows.names,
        &rows.positions,
        &roles,
        &rows.specs
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn save_policies(
    connection: &mut PgConnection,
    document: &Document,
) -> Result<(), StoreError> {
    let rows = Rows::of(document.policies.iter().map(|p| (&p.name, p)))?;
    sqlx::query!("delete from policies where name <> all($1)", &rows.names)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "insert into policies as old (name, position, spec)
         select * from unnest($1::text[], $2::int[], $3::jsonb[])
         on conflict (name) do update set position = excluded.position, spec = excluded.spec
         where (old.position, old.spec) is distinct from (excluded.position, excluded.spec)",
        &rows.names,
        &rows.positions,
        &rows.specs
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn save_pools(connection: &mut PgConnection, document: &Document) -> Result<(), StoreError> {
    let mut rows = Rows::of(document.pools.iter().map(|p| (&p.name, p)))?;
    for spec in &mut rows.specs {
        // Their own table has them.
        spec.as_object_mut()
            .map(|fields: &mut Map<_, _>| fields.remove("backends"));
    }
    sqlx::query!("delete from pools where name <> all($1)", &rows.names)
        .execute(&mut *connection)
        .await?;
    sqlx::query!(
        "insert into pools as old (name, position, spec)
         select * from unnest($1::text[], $2::int[], $3::jsonb[])
         on conflict (name) do update set position = excluded.position, spec = excluded.spec
         where (old.position, old.spec) is distinct from (excluded.position, excluded.spec)",
        &rows.names,
        &rows.positions,
        &rows.specs
    )
    .execute(&mut *connection)
    .await?;
    save_backends(connection, document).await
}

async fn save_backends(
    connection: &mut PgConnection,
    document: &Document,
) -> Result<(), StoreError> {
    let (mut pools, mut names, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    let (mut positions, mut specs) = (Vec::new(), Vec::new());
    for pool in &document.pools {
        for (position, backend) in (0_i32..).zip(&pool.backends) {
            pools.push(pool.name.to_string());
            names.push(backend.name().to_string());
            addresses.push(backend.address.to_string());
            positions.push(position);
            specs.push(spec(backend)?);
        }
    }
    sqlx::query!(
        "delete from backends where (pool, name) not in (select * from unnest($1::text[], $2::text[]))",
        &pools,
        &names
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "insert into backends as old (pool, name, position, address, spec)
         select * from unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::jsonb[])
         on conflict (pool, name) do update
         set position = excluded.position, address = excluded.address, spec = excluded.spec
         where (old.position, old.address, old.spec)
               is distinct from (excluded.position, excluded.address, excluded.spec)",
        &pools,
        &names,
        &positions,
        &addresses,
        &specs
    )
    .execute(connection)
    .await?;
    Ok(())
}
