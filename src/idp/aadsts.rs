//! The numbers of Entra's errors that people meet, in our words: what happened, and what helps. Nothing is decided by them but
//! what [`super::classify`] names; a number that is not here is shown as it is.

/// What a code means.
#[derive(Debug, PartialEq, Eq)]
pub struct Explained {
    /// The code, `AADSTS…`.
    pub code: &'static str,
    /// What happened.
    pub what: &'static str,
    /// What helps, and who can do it.
    pub advice: &'static str,
}

/// Looks a code up, with or without `AADSTS` in front.
pub fn explain(code: &str) -> Option<&'static Explained> {
    let number = code.strip_prefix("AADSTS").unwrap_or(code);
    CODES.iter().find(|one| one.code.strip_prefix("AADSTS") == Some(number))
}

const fn code(code: &'static str, what: &'static str, advice: &'static str) -> Explained {
    Explained { code, what, advice }
}

const AGAIN: &str = "Sign in again.";
const WAIT: &str = "Wait a few minutes and try again; if it stays, look at Microsoft's service health.";
const ADMIN_CONSENT: &str =
    "An administrator of the directory opens Enterprise applications, the gateway, Permissions, and grants consent.";
const SUPPORT: &str = "Report it with the trace id: the gateway sent something that Entra does not take.";

/// Every code with words of ours.
pub static CODES: &[Explained] = &[
    code("AADSTS16000", "The account does not exist in this directory.", "Choose another account, or have it invited."),
    code(
        "AADSTS28000",
        "More than one resource was asked for at once.",
        "Correct MREG_AZURE_AUDIENCE and MREG_AZURE_SCOPE.",
    ),
    code("AADSTS28003", "No scope was asked for with the authorization code.", SUPPORT),
    code(
        "AADSTS50011",
        "The redirect URI is not registered for the application.",
        "Add the gateway's callback, its public URL with /oauth/callback/entra, as a redirect URI of the platform Web.",
    ),
    code("AADSTS50013", "An assertion's signature or time did not hold.", AGAIN),
    code(
        "AADSTS50020",
        "The account is of another directory and is no guest here.",
        "Sign in with an account of this directory, or have the account invited as a guest.",
    ),
    code("AADSTS50034", "The account does not exist in this directory.", "Choose another account."),
    code(
        "AADSTS50053",
        "The account is locked after too many wrong passwords.",
        "Wait, or ask the directory's help desk.",
    ),
    code("AADSTS50055", "The password has expired.", "Sign in again and set a new password."),
    code("AADSTS50057", "The account is disabled.", "Ask an administrator of the directory."),
    code("AADSTS50058", "Nobody is signed in and nobody could be asked.", AGAIN),
    code("AADSTS50059", "The request did not say which directory it is about.", "Correct MREG_AZURE_TENANT_ID."),
    code("AADSTS50072", "The person must set up multi-factor authentication.", "Sign in again and set it up."),
    code("AADSTS50074", "Multi-factor authentication is required.", AGAIN),
    code("AADSTS50076", "Multi-factor authentication is required by a change of policy or place.", AGAIN),
    code("AADSTS50078", "The multi-factor authentication has expired.", AGAIN),
    code("AADSTS50079", "The person must enrol in multi-factor authentication.", "Sign in again and enrol."),
    code("AADSTS50097", "A registered device is required.", "Sign in from a device that the directory knows."),
    code(
        "AADSTS50105",
        "The person is not assigned to the application.",
        "An administrator assigns the person or a group under Enterprise applications, Users and groups, or turns \
         'Assignment required' off.",
    ),
    code("AADSTS50126", "User name or password is wrong.", AGAIN),
    code("AADSTS50128", "No directory has this name.", "Correct MREG_AZURE_TENANT_ID."),
    code("AADSTS50131", "A policy of the directory blocks the sign-in.", "Ask an administrator of the directory."),
    code("AADSTS50133", "The session is void since the password changed.", AGAIN),
    code("AADSTS50140", "The person was interrupted by 'Keep me signed in'.", AGAIN),
    code(
        "AADSTS50146",
        "The application needs a signing key of its own.",
        "Take custom claims mapping off the application.",
    ),
    code("AADSTS50158", "Another check outside Entra is required.", AGAIN),
    code("AADSTS50173", "The grant was revoked: the password changed or the sessions were ended.", AGAIN),
    code(
        "AADSTS50194",
        "The application takes people of one directory only.",
        "Set MREG_AZURE_TENANT_ID to that directory, or make the application multi-tenant.",
    ),
    code(
        "AADSTS50196",
        "Entra was asked the same too often in a row and stopped answering.",
        "Wait some minutes. If it comes back, report it with the trace id.",
    ),
    code(
        "AADSTS500011",
        "The resource is unknown in the directory.",
        "Correct MREG_AZURE_AUDIENCE: the Application ID URI.",
    ),
    code(
        "AADSTS500113",
        "No redirect URI is registered.",
        "Add the gateway's callback as a redirect URI of the platform Web.",
    ),
    code("AADSTS500131", "An assertion was made for another application.", SUPPORT),
    code("AADSTS500133", "An assertion has expired.", AGAIN),
    code("AADSTS501481", "The code verifier does not match.", "Sign in again; do not use an old page."),
    code("AADSTS53000", "The device does not comply with the directory's policy.", "Use a compliant device."),
    code("AADSTS53001", "The device is not joined to the directory.", "Use a joined device."),
    code(
        "AADSTS53003",
        "A Conditional Access policy blocks the sign-in.",
        "Ask an administrator; the sign-in log names the policy.",
    ),
    code("AADSTS54005", "The authorization code was used already.", "Sign in again; do not reload the callback page."),
    code("AADSTS65001", "Nobody consented to what the application asks for.", ADMIN_CONSENT),
    code("AADSTS65004", "The person declined to consent.", "Sign in again and accept."),
    code("AADSTS650052", "The directory has no service principal for the application.", ADMIN_CONSENT),
    code(
        "AADSTS650053",
        "The scope does not exist on the resource.",
        "Add the scope under Expose an API, or correct MREG_AZURE_SCOPE.",
    ),
    code(
        "AADSTS650056",
        "The application misses permissions, or its registration is incomplete.",
        "Add openid, profile and User.Read under API permissions and grant consent.",
    ),
    code("AADSTS650057", "The resource is not among the application's permissions.", "Add it under API permissions."),
    code("AADSTS70000", "The grant is not valid any more.", AGAIN),
    code("AADSTS70001", "The application is unknown or disabled in the directory.", "Correct MREG_AZURE_CLIENT_ID."),
    code("AADSTS70003", "The application may not use this grant.", SUPPORT),
    code("AADSTS70008", "The code or refresh token has expired.", AGAIN),
    code("AADSTS70011", "A scope is not valid.", "Correct MREG_AZURE_AUDIENCE and MREG_AZURE_SCOPE."),
    code("AADSTS70043", "The directory wants a fresh sign-in from time to time, and it is time.", AGAIN),
    code("AADSTS70044", "The session has ended by a policy of sign-in frequency.", AGAIN),
    code(
        "AADSTS700016",
        "The application is unknown in the directory.",
        "Correct MREG_AZURE_CLIENT_ID and MREG_AZURE_TENANT_ID; in another directory an administrator consents first.",
    ),
    code(
        "AADSTS700025",
        "The application is a public client and must not prove itself.",
        "Register the redirect URI under the platform Web.",
    ),
    code(
        "AADSTS700027",
        "The certificate is not registered for the application, or the assertion did not hold.",
        "Upload the certificate of MREG_AZURE_CLIENT_CERTIFICATE under Certificates & secrets, and look at the clock.",
    ),
    code(
        "AADSTS700030",
        "The certificate has expired or is not valid.",
        "Renew MREG_AZURE_CLIENT_CERTIFICATE and upload it.",
    ),
    code("AADSTS700082", "The refresh token was not used for too long.", AGAIN),
    code("AADSTS700084", "The refresh token was for a single-page application and has expired.", AGAIN),
    code(
        "AADSTS700213",
        "No federated credential of the application matches the token.",
        "Compare issuer, subject and audience of the federated credential with the token's.",
    ),
    code("AADSTS7000112", "The application is disabled.", "An administrator enables it under Enterprise applications."),
    code(
        "AADSTS7000114",
        "The application may not act on behalf of people.",
        "Use an application without custom signing keys.",
    ),
    code(
        "AADSTS7000215",
        "The client secret is wrong.",
        "Set MREG_AZURE_CLIENT_SECRET to the secret's value; its id is not it.",
    ),
    code(
        "AADSTS7000218",
        "The application must prove itself and did not.",
        "Give the gateway a secret, certificate or federated token.",
    ),
    code(
        "AADSTS7000222",
        "The client secret has expired.",
        "Make a new one under Certificates & secrets and set it as MREG_AZURE_CLIENT_SECRET_NEXT.",
    ),
    code("AADSTS7000229", "The application has no service principal in the directory.", ADMIN_CONSENT),
    code("AADSTS75011", "The way the person signed in does not match what was asked for.", AGAIN),
    code(
        "AADSTS90002",
        "The directory does not exist.",
        "Correct MREG_AZURE_TENANT_ID, and MREG_AZURE_AUTHORITY in a national cloud.",
    ),
    code(
        "AADSTS90009",
        "The application asked for a token for itself by a name.",
        "Set MREG_AZURE_AUDIENCE to api:// and the client id, or to the client id.",
    ),
    code("AADSTS90014", "A field of the request is missing.", SUPPORT),
    code("AADSTS90033", "Entra has a passing error.", WAIT),
    code(
        "AADSTS90072",
        "The account is of another directory and is no guest here.",
        "Sign in with another account, or have it invited.",
    ),
    code("AADSTS90094", "An administrator must consent.", ADMIN_CONSENT),
    code("AADSTS900144", "A field of the request is missing.", SUPPORT),
    code("AADSTS900382", "Confidential clients may not be asked for across clouds.", "Correct MREG_AZURE_AUTHORITY."),
    code("AADSTS901002", "Entra does not take the parameter `resource`.", SUPPORT),
    code(
        "AADSTS1002012",
        "The scope of a client credential must end in /.default.",
        "The client asks for the Application ID URI with /.default.",
    ),
    code("AADSTS9001023", "The grant needs one directory.", "Use the directory's id in place of organizations."),
    code("AADSTS9002313", "The request is malformed.", SUPPORT),
    code(
        "AADSTS9002325",
        "PKCE is required for this redirect URI.",
        "Register the redirect URI under the platform Web.",
    ),
    code(
        "AADSTS9002326",
        "The redirect URI is of a single-page application.",
        "Register the redirect URI under the platform Web.",
    ),
    code("AADSTS9010010", "The resource and the scopes do not belong together.", "Correct MREG_AZURE_AUDIENCE."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_explained_with_or_without_its_letters_and_only_once() {
        assert_eq!(explain("AADSTS7000222"), explain("7000222"));
        assert!(explain("7000222").unwrap().advice.contains("MREG_AZURE_CLIENT_SECRET_NEXT"));
        assert_eq!(explain("AADSTS1"), None);
        let mut codes: Vec<_> = CODES.iter().map(|one| one.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CODES.len());
        assert!(
            CODES
                .iter()
                .all(|one| one.code.starts_with("AADSTS") && one.what.ends_with('.') && one.advice.ends_with('.'))
        );
    }
}
