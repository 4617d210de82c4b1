//! A row as texts by column.

/// One row of an answer.
#[derive(Debug, Default)]
pub struct Row(pub(super) Vec<(String, Option<String>)>);

impl Row {
    /// True if the answer has this column, in any case of letters.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(own, _)| own.eq_ignore_ascii_case(name))
    }

    /// The column's value; `None` if it is NULL or there is no such column.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let mut columns = self.0.iter();
        columns
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| value.clone())
    }
}
