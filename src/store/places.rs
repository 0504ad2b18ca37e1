//! Places for many values in one statement.

/// So many rows of so many places, as they stand behind `VALUES`. PostgreSQL numbers them; SQLite would look each number up among all of
/// them, which takes longer than all else that it does with a row, and takes them in their order without.
pub(super) fn rows(numbered: bool, columns: usize, count: usize) -> String {
    let place = |number: usize| if numbered { format!("${number}") } else { "?".to_owned() };
    let row = |at: usize| {
        let places = (1..=columns).map(|column| place(at * columns + column)).collect::<Vec<_>>();
        format!("({})", places.join(", "))
    };
    (0..count).map(row).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_have_numbers_where_they_must() {
        assert_eq!(rows(true, 2, 2), "($1, $2), ($3, $4)");
        assert_eq!(rows(false, 2, 2), "(?, ?), (?, ?)");
    }
}
