//! Rows of the API as columns: a title and how its cell is said. No borders, so
//! that a table can be cut and searched.

use comfy_table::{Table, presets};
use serde_json::Value;
use time::OffsetDateTime;

use crate::cli::words;

/// A column: its title, and what it says of a row.
pub(crate) struct Column(pub(crate) &'static str, pub(crate) Say);

/// What a cell says.
#[derive(Clone, Copy)]
pub(crate) enum Say {
    /// The value at a pointer.
    At(&'static str),
    /// How long ago the time at a pointer was.
    Age(&'static str),
    /// How far off the time at a pointer is.
    Until(&'static str),
    /// Something of several values.
    By(fn(&Value) -> String),
}

/// The rows under their titles.
pub(crate) fn table(columns: &[Column], rows: &[Value], now: OffsetDateTime) -> String {
    let cells = rows.iter().map(|row| {
        columns.iter().map(|Column(_, say)| match say {
            Say::At(pointer) => words::at(row, pointer),
            Say::Age(pointer) => words::age(row, pointer, now),
            Say::Until(pointer) => words::until(row, pointer, now),
            Say::By(told) => told(row),
        })
    });
    grid(columns.iter().map(|Column(title, _)| *title), cells)
}

/// Cells that are texts already.
pub(crate) fn grid<'t, R>(
    titles: impl IntoIterator<Item = &'t str>,
    rows: impl IntoIterator<Item = R>,
) -> String
where
    R: IntoIterator<Item = String>,
{
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(titles);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::noon;

    #[test]
    fn a_table_is_aligned_and_has_no_borders() {
        let columns = [
            Column("NAME", Say::At("/name")),
            Column("AGE", Say::Age("/at")),
            Column("BOTH", Say::By(|row| words::at(row, "/name").repeat(2))),
        ];
        let rows = [
            json!({ "name": "a-long-one", "at": "2026-11-01T11:00:00Z" }),
            json!({ "name": "b" }),
        ];
        assert_eq!(
            table(&columns, &rows, noon()),
            "NAME        AGE  BOTH\n\
             a-long-one  60m  a-long-onea-long-one\n\
             b           -    bb"
        );
    }
}
