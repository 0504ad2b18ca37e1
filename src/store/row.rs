//! Rows as structs. What `sqlx` offers for this is a procedural macro that brings both databases a second time, compiled for the
//! build alone: a sixth of it.

/// Declares a struct whose fields are the columns of the same names. Those in `rows` are structs of the same kind, of columns of
/// the same row.
macro_rules! row {
    ($(#[$about:meta])* pub struct $name:ident {
        $(rows { $($(#[$about_part:meta])* pub $part:ident: $whole:ty,)* })?
        $($(#[$about_column:meta])* pub $column:ident: $type:ty,)*
    }) => {
        $(#[$about])*
        pub struct $name {
            $($($(#[$about_part])* pub $part: $whole,)*)?
            $($(#[$about_column])* pub $column: $type,)*
        }

        impl<'r, R: sqlx::Row> sqlx::FromRow<'r, R> for $name
        where
            &'static str: sqlx::ColumnIndex<R>,
            $($($whole: sqlx::FromRow<'r, R>,)*)?
            $($type: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,)*
        {
            fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
                Ok(Self {
                    $($($part: sqlx::FromRow::from_row(row)?,)*)?
                    $($column: row.try_get(stringify!($column))?,)*
                })
            }
        }
    };
}
