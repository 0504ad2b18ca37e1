//! What names say of the values beside them. What is not known is taken for a secret: one too many costs a look, one too few a password.

/// Longest name that is one, bytes.
const LONGEST: usize = 128;

/// What names of secrets hold, small letters and digits alone.
const PARTS: [&str; 43] = [
    "2fa",
    "accesskey",
    "apikey",
    "assertion",
    "authorization",
    "bearer",
    "connectionstring",
    "contrasena",
    "cookie",
    "credential",
    "creds",
    "csrf",
    "dsn",
    "encryptionkey",
    "kennwort",
    "mnemonic",
    "motdepasse",
    "otp",
    "passcode",
    "passkey",
    "passphrase",
    "passwd",
    "passwor",
    "privatekey",
    "pwd",
    "secret",
    "seedphrase",
    "senha",
    "session",
    "signature",
    "signingkey",
    "token",
    "verifier",
    "wachtwoord",
    "xsrf",
    "парол",
    "密码",
    "密碼",
    "密钥",
    "口令",
    "パスワード",
    "비밀번호",
    "비번",
];
/// Words that say it alone, wherever they stand in a name.
const WORDS: [&str; 16] = [
    "auth", "cred", "cvc", "cvv", "jwt", "mfa", "pass", "pat", "pin", "pins", "psk", "pw", "sas", "seed", "sig", "sigs",
];
/// Ends of names that say it, also without a gap before them, and what stands before them in names of something else.
const ENDS: [(&str, &[&str]); 6] = [
    ("key", KEYS),
    ("keys", KEYS),
    ("code", CODES),
    ("codes", CODES),
    ("pin", &["hair", "ping", "push", "re", "s", "un"]),
    ("pass", &["by", "com", "encom", "over", "sur", "tres", "under"]),
];
/// Of keys that open nothing.
const KEYS: &[&str] = &[
    "cache",
    "composite",
    "don",
    "foreign",
    "group",
    "hoc",
    "hot",
    "index",
    "issue",
    "joc",
    "map",
    "mon",
    "object",
    "parent",
    "partition",
    "primary",
    "project",
    "public",
    "row",
    "sort",
    "translation",
    "tur",
    "unique",
    "whis",
];
/// Of codes that open nothing.
const CODES: &[&str] = &[
    "airport", "area", "bar", "color", "country", "currency", "de", "en", "error", "exit", "geo", "http", "iata",
    "item", "lang", "language", "locale", "op", "post", "postal", "product", "qr", "reason", "region", "response",
    "return", "source", "state", "status", "trans", "uni", "zip",
];
/// Words at the end of a name that say how the value is written, and not what it is.
const TAILS: [&str; 16] = [
    "b", "base", "content", "data", "field", "header", "hex", "material", "new", "old", "pem", "string", "text", "v",
    "val", "value",
];
/// Last words of members that hold the name of what another member holds.
const NAMING: [&str; 14] = [
    "attribute",
    "env",
    "field",
    "header",
    "k",
    "key",
    "label",
    "name",
    "option",
    "param",
    "parameter",
    "property",
    "var",
    "variable",
];
/// Words of members that hold what is named so.
const VALUES: [&str; 12] =
    ["content", "contents", "current", "data", "default", "new", "old", "text", "v", "val", "value", "values"];

/// Whether a member of this name may hold a secret. What is written in letters that are not Latin may mean anything, or look like
/// something else; so may what is too long for a name.
pub(super) fn is_secret(name: &str) -> bool {
    is_foreign(name) || is_known(name)
}

/// The same for a name within a text, where words of any language stand: foreign letters make one suspicious among Latin ones.
pub(super) fn is_secret_within(name: &str) -> bool {
    (is_foreign(name) && name.contains(|c: char| c.is_ascii_alphabetic())) || is_known(name)
}

/// Whether a member of this name says how another's value is called.
pub(super) fn is_naming(name: &str) -> bool {
    words(name).last().is_some_and(|last| NAMING.contains(&&**last))
}

/// Whether a member of this name holds the value of what another names.
pub(super) fn is_value(name: &str) -> bool {
    words(name).iter().any(|word| VALUES.contains(&&**word))
}

/// Whether a text is a name, and not a sentence or anything else.
pub(super) fn is_name(text: &str) -> bool {
    text.len() <= LONGEST && text.chars().all(|c| c.is_alphanumeric() || "_-.[]".contains(c))
}

fn is_known(name: &str) -> bool {
    // An escape stands in what cannot be read as characters.
    if name.len() > LONGEST || name.contains("\\u") || name.contains("\\x") {
        return true;
    }
    let letters: String = name.chars().filter(|c| c.is_alphanumeric()).map(small).collect();
    if PARTS.iter().any(|part| letters.contains(part)) {
        return true;
    }
    let mut words = words(name);
    if words.iter().any(|word| WORDS.contains(&&**word)) {
        return true;
    }
    while words.len() > 1 && words.last().is_some_and(|last| TAILS.contains(&&**last)) {
        words.pop();
    }
    let Some(last) = words.pop() else { return false };
    let before = words.pop().unwrap_or_default();
    ENDS.iter().any(|(end, harmless)| {
        last.strip_suffix(end).is_some_and(|glued| {
            let of = if glued.is_empty() { before.as_str() } else { glued };
            !harmless.contains(&of)
        })
    })
}

/// The words of a name in small letters: by case, digits and signs.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        let begins = c.is_uppercase()
            && (before.is_lowercase() || (before.is_uppercase() && chars.peek().is_some_and(|c| c.is_lowercase())));
        if (begins || !c.is_alphabetic()) && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphabetic()) {
            word.push(small(c));
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether something stands in a name that is neither ASCII nor a Latin letter with a mark.
fn is_foreign(name: &str) -> bool {
    name.chars().any(|c| !small(c).is_ascii())
}

/// A letter in small, without its mark.
fn small(c: char) -> char {
    let c = if c.is_ascii() || ('À'..='ÿ').contains(&c) { c.to_lowercase().next().unwrap_or(c) } else { c };
    match c {
        'à'..='å' => 'a',
        'ç' => 'c',
        'è'..='ë' => 'e',
        'ì'..='ï' => 'i',
        'ñ' => 'n',
        'ò'..='ö' | 'ø' => 'o',
        'ß' => 's',
        'ù'..='ü' => 'u',
        'ý' | 'ÿ' => 'y',
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_however_they_are_spelled() {
        for name in [
            "password",
            "Passwort",
            "kennwort",
            "contraseña",
            "CONTRASEÑA",
            "senha",
            "pass",
            "db_pass",
            "DBPASS",
            "userpass",
            "authKey",
            "ssh-key",
            "sshkey",
            "accountKey",
            "masterKey",
            "shared.key",
            "key",
            "keys",
            "key1",
            "KEY_PEM",
            "keyData",
            "otpCode",
            "pinCode",
            "pincode",
            "authCode",
            "backup_codes",
            "code",
            "card_pin",
            "userPIN",
            "totp",
            "mnemonic",
            "seed",
            "walletSeed",
            "sas",
            "sas_url",
            "sig",
            "pat",
            "GITHUB_PAT",
            "creds",
            "X-Api-Key",
            "x_api_key",
            "APIKey",
            "Authorization",
            "set-cookie",
            "jwt",
            "clientSecret",
            "p\u{430}ssword",
            "pass\u{200b}word",
            "ｐａｓｓ",
            "пароль",
            "описание",
            "pu0061ssword\\ud800",
            "user[password]",
        ] {
            assert!(is_secret(name), "{name}");
        }
        assert!(is_secret(&"x".repeat(LONGEST + 1)));
    }

    #[test]
    fn names_of_other_things_are_left() {
        for name in [
            "monkey",
            "keyboard",
            "description",
            "path",
            "spin",
            "opinion",
            "pattern",
            "patient",
            "compass",
            "bypass",
            "passenger",
            "countryCode",
            "zip_code",
            "zipcode",
            "status-code",
            "exitCode",
            "barcode",
            "encode",
            "codec",
            "primary_key",
            "project_key",
            "issueKey",
            "publicKey",
            "key_id",
            "author",
            "design",
            "signal",
            "größe",
            "prénom",
            "name",
            "value",
            "user",
            "",
        ] {
            assert!(!is_secret(name), "{name}");
        }
        for word in ["описание", "смотри", "说明"] {
            assert!(!is_secret_within(word), "{word}");
        }
        assert!(is_secret_within("p\u{430}ssword") && is_secret_within("пароль") && is_secret_within("密码"));
    }

    #[test]
    fn members_that_name_others_are_known() {
        assert!(["name", "Key", "headerName", "env_var"].into_iter().all(is_naming));
        assert!(["value", "stringValue", "Values", "default"].into_iter().all(is_value));
        assert!(!is_naming("username") && !is_value("evaluate"));
    }
}
