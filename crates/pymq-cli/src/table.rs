//! Tables for people: columns as wide as what stands in them.

use crate::output::printable;

/// Rows under headings; numbers stand at the right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&heading| heading.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// The lines, the headings first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let numeric = |column: usize| {
            self.rows[1..].iter().filter_map(|row| row.get(column)).all(|cell| is_number(cell))
        };
        let numeric: Vec<_> = (0..columns).map(numeric).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let width = widths[column];
                match numeric[column] {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

fn is_number(cell: &str) -> bool {
    cell == "-" || cell.starts_with(|character: char| character.is_ascii_digit())
}

/// A length of time as people say it: `250 ms`, `12 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn span(length: std::time::Duration) -> String {
    match length.as_secs() {
        0 => format!("{} ms", length.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells_and_numbers_stand_at_the_right() {
        let mut table = Table::new(&["QUEUE", "WAITING"]);
        table.row(["jobs".to_owned(), "7".to_owned()]);
        table.row(["a-long-name".to_owned(), "1200".to_owned()]);
        assert_eq!(
            table.lines(),
            ["QUEUE        WAITING", "jobs               7", "a-long-name     1200"]
        );
    }
}
