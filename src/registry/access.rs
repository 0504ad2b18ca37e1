//! Who may see and call what. One decision serves listing and calling, and nothing is allowed that no rule allows: the
//! credential's scopes and the server's visibility must both say yes.

use crate::access::{Caller, Role};
use crate::registry::model::Server;

/// Whether the caller may see the server at all.
pub fn sees(caller: &Caller, server: &Server) -> bool {
    if *caller.tenant() != server.tenant || !caller.scopes().allows_server(server.spec.slug.as_str()) {
        return false;
    }
    let visibility = &server.spec.visibility;
    caller.role() >= Role::TenantAdmin
        || visibility.everyone
        || visibility.roles.iter().any(|role| role == caller.role().as_str())
        || visibility.users.iter().any(|user| user.eq_ignore_ascii_case(caller.user()))
}

/// Whether the caller may call this tool of a server that it sees.
pub fn may_call(caller: &Caller, slug: &str, tool: &str) -> bool {
    caller.scopes().allows_tool(slug, tool)
}

/// What tells two callers apart who see the same servers and yet different tools.
pub fn tool_signature(caller: &Caller) -> u64 {
    caller.scopes().tool_signature()
}
