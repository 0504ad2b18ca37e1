//! Who may call what: every call that is described, by somebody of each role, of the tenant that a thing is of and of another one,
//! against the role that the description says it takes.

use axum::Router;
use mcp_registry_gateway::router;
use serde_json::{Value, json};

use crate::api::{Operation, body, operations};
use crate::isolation::{Ids, filled, furnish, tenant};
use crate::routes::send;
use crate::store_databases::Database;
use crate::store_rest::World;

const ROLES: [&str; 4] = ["user", "server_owner", "tenant_admin", "admin"];

/// Calls that look at more than the role, and whom they refuse though the role would do.
const NARROWER: [(&str, &[&str], &str); 10] = [
    ("revokeKey", &["user", "server_owner"], "of a key that is somebody else's they know nothing"),
    ("getUser", &["user", "server_owner"], "of an account that is somebody else's they know nothing"),
    ("patchUser", &["user", "server_owner"], "of an account that is somebody else's they know nothing"),
    ("setPassword", &["user", "server_owner"], "of an account that is somebody else's they know nothing"),
    ("replaceServer", &["server_owner"], "it is another's"),
    ("patchServer", &["server_owner"], "it is another's"),
    ("deleteServer", &["server_owner"], "it is another's"),
    ("enableServer", &["server_owner"], "it is another's"),
    ("disableServer", &["server_owner"], "it is another's"),
    ("refreshServer", &["server_owner"], "it is another's"),
];

/// What else those are answered who may: there is nothing to be done, or nobody to do it.
const LET_THROUGH: [(&str, u16); 3] = [
    // The client has as many as it may have.
    ("addClientSecret", 422),
    // Of somebody whom the tenant does not know.
    ("explainRules", 422),
    // No provider gave anything.
    ("forceTokenRefresh", 409),
];

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    /// Nobody who says who it is.
    Nobody,
    /// Of the tenant that the thing is of, with the role of that place in [`ROLES`].
    Own(usize),
    /// Who administers another tenant.
    Other,
    /// Who administers the gateway.
    Gateway,
    /// An administrator's key that may nothing but look.
    Small,
}

/// Whether the status is right.
fn is_right(operation: &Operation, who: Who, status: u16) -> bool {
    let Some(role) = operation.role() else { return status < 500 };
    let needed = ROLES.iter().position(|one| *one == role).unwrap();
    let names_one = operation.path().contains('{');
    let refused = matches!(status, 403 | 404);
    let let_through = status < 300 || LET_THROUGH.contains(&(operation.id(), status));
    let narrower = |role: &str| NARROWER.iter().any(|(id, roles, _)| *id == operation.id() && roles.contains(&role));
    match who {
        Who::Nobody => status == 401,
        Who::Own(role) if role < needed || narrower(ROLES[role]) => refused,
        Who::Other if needed > 2 => refused,
        Who::Other if names_one => status == 404,
        Who::Own(_) | Who::Other => let_through,
        // What a tenant has is not in the tenant of the gateway's administrators.
        Who::Gateway => status < 500 && !matches!(status, 401 | 403),
        Who::Small if needed > 1 => refused,
        Who::Small if operation.method() != "GET" => refused || operation.id() == "logout",
        Who::Small => status == 200 || refused,
    }
}

/// Two tenants, and keys of all who call.
struct House {
    world: World,
    router: Router,
    ids: Ids,
    head: String,
    other: String,
    small: String,
    lesser: Vec<String>,
    _database: Database,
}

impl House {
    async fn build() -> Self {
        let database = Database::sqlite();
        let world = World::open(&database).await;
        let head = tenant(&world, "kestrel", "osprey Ltd").await;
        let other = tenant(&world, "beta", "Beta").await;
        let ids = furnish(&world, &head).await;
        let key = async |order: Value| {
            let made = world.with_key(&head, "POST /keys", order).await.expect(201).json();
            made["key"].as_str().unwrap().to_owned()
        };
        let mut lesser = Vec::new();
        for role in &ROLES[..2] {
            let name = format!("kestrel-{role}").replace('_', "-");
            world.with_key(&head, "POST /users", json!({"username": name, "role": role})).await.expect(201);
            lesser.push(key(json!({"name": "k", "username": name, "role": role, "servers": "*", "admin": true})).await);
        }
        let small = key(json!({"name": "small", "servers": [], "role": "tenant_admin", "admin": false})).await;
        let router = router::routes(world.app.clone());
        Self { world, router, ids, head, other, small, lesser, _database: database }
    }

    fn key(&self, who: Who) -> &str {
        match who {
            Who::Nobody => "",
            Who::Own(2) => &self.head,
            Who::Own(role) => &self.lesser[role],
            Who::Other => &self.other,
            Who::Gateway => &self.world.admin,
            Who::Small => &self.small,
        }
    }
}

/// Has everybody make the calls of these methods.
async fn judge(methods: &[&str]) {
    let all = [Who::Nobody, Who::Own(0), Who::Own(1), Who::Own(2), Who::Other, Who::Small, Who::Gateway];
    let (mut wrong, mut tried, mut house) = (Vec::new(), 0, None);
    for operation in operations().iter().filter(|operation| methods.contains(&operation.method())) {
        let body = body(&operation.call);
        for who in all {
            if house.is_none() {
                house = Some(House::build().await);
            }
            let there = house.as_ref().unwrap();
            let path = filled(operation.path(), &there.ids).remove(0).0;
            let status = send(&there.router, operation.method(), &path, there.key(who), &body).await.status().as_u16();
            if !is_right(operation, who, status) {
                wrong.push(format!("{} ({}): {who:?} gets {status}", operation.id(), operation.role().unwrap_or("-")));
            }
            tried += 1;
            if operation.method() != "GET" && status < 300 {
                // What is removed is not there for who comes next.
                house = None;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(tried > 70, "{tried}");
}

#[tokio::test]
async fn every_read_takes_the_role_that_it_says() {
    judge(&["GET"]).await;
}

#[tokio::test]
async fn every_post_takes_the_role_that_it_says() {
    judge(&["POST"]).await;
}

#[tokio::test]
async fn every_other_change_takes_the_role_that_it_says() {
    judge(&["PUT", "PATCH", "DELETE"]).await;
}
