//! Accounts that an identity provider vouches for, by issuer and subject. Such an account is never found by its name.

use super::users::UserRow;
use super::{Store, StoreError};
use crate::id::TenantId;

impl Store {
    /// The account of that issuer and subject, of whichever tenant: there is one at most.
    pub async fn user_of_subject(&self, issuer: &str, subject: &str) -> Result<Option<UserRow>, StoreError> {
        let text = "SELECT * FROM users WHERE issuer = $1 AND subject = $2";
        Ok(on!(read self, db => sqlx::query_as(text).bind(issuer).bind(subject).fetch_optional(db).await?))
    }

    /// Writes the role and the display name that a provider gives, whoever administers the gateway then: the provider's word
    /// counts. `Missing` when the tenant has no such account of that issuer and subject.
    pub async fn update_person(&self, tenant: &TenantId, row: &UserRow) -> Result<(), StoreError> {
        let text = "UPDATE users SET role = $1, display_name = $2, updated_at = $3
            WHERE tenant_id = $4 AND id = $5 AND issuer = $6 AND subject = $7";
        on!(change self, tx => {
            let done = sqlx::query(text)
                .bind(&row.role)
                .bind(row.display_name.as_deref())
                .bind(row.updated_at)
                .bind(tenant.as_str())
                .bind(row.id)
                .bind(row.issuer.as_deref())
                .bind(row.subject.as_deref())
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 0 {
                return Err(StoreError::Missing);
            }
        });
        Ok(())
    }
}
