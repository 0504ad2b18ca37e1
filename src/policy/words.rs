//! Callers and things as Cedar's entities.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Value,
};

use super::arguments::{Argument, View};
use super::{Thing, What};
use crate::access::Role;
use crate::access::subject::Subject;

/// The names of the schema, read once for each set.
pub(super) struct Words {
    user: EntityTypeName,
    role: EntityTypeName,
    group: EntityTypeName,
    app_role: EntityTypeName,
    client: EntityTypeName,
    server: EntityTypeName,
    tool: EntityTypeName,
    resource: EntityTypeName,
    prompt: EntityTypeName,
    views: [(View, EntityUid); 4],
    action: EntityUid,
}

/// What Cedar says of a text of ours that is not right; it is the same at every start.
pub(super) type Wrong = Box<dyn std::error::Error + Send + Sync>;

fn uid(kind: &EntityTypeName, id: impl AsRef<str>) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: &str) -> Value {
    Value::new_string(value.to_owned())
}

impl Words {
    pub(super) fn new() -> Result<Self, Wrong> {
        let kind = |name: &str| name.parse::<EntityTypeName>().map_err(Wrong::from);
        let view = |view: View| Ok::<_, Wrong>((view, uid(&kind(view.entity())?, "")));
        Ok(Self {
            user: kind("User")?,
            role: kind("Role")?,
            group: kind("Group")?,
            app_role: kind("AppRole")?,
            client: kind("Client")?,
            server: kind("Server")?,
            tool: kind("Tool")?,
            resource: kind("Resource")?,
            prompt: kind("Prompt")?,
            views: [view(View::Text)?, view(View::Number)?, view(View::Flag)?, view(View::List)?],
            action: uid(&kind("Action")?, "use"),
        })
    }

    /// The question to Cedar, and what it has to know for it. `arguments` are those that rules read.
    pub(super) fn ask(
        &self,
        subject: &Subject,
        thing: &Thing<'_>,
        arguments: &[Argument],
    ) -> Result<(Request, Entities), Wrong> {
        let principal = self.principal(subject)?;
        let (server, other) = self.things(thing)?;
        let resource = other.as_ref().unwrap_or(&server).uid();
        let mut context = vec![
            ("client".to_owned(), Value::new_entity_uid(uid(&self.client, subject.client()))),
            ("credential".to_owned(), text(subject.credential())),
        ];
        for (view, of) in &self.views {
            context.push((view.name().to_owned(), Value::new_entity_uid(of.clone())));
        }
        let request =
            Request::new(principal.uid(), self.action.clone(), resource, Context::from_pairs(context)?, None)?;
        let mut entities = vec![principal, server];
        entities.extend(other);
        for (view, of) in &self.views {
            let own = arguments.iter().filter(|argument| argument.view == *view);
            let tags: HashMap<String, Value> = own.map(Argument::tag).collect();
            if !tags.is_empty() {
                entities.push(Entity::new_with_tags(of.clone(), [], [], tags)?);
            }
        }
        Ok((request, Entities::from_entities(entities, None)?))
    }

    fn principal(&self, subject: &Subject) -> Result<Entity, Wrong> {
        let role = subject.role();
        let memberships = subject.memberships();
        let roles = Role::ALL.into_iter().filter(|lesser| *lesser <= role).map(|role| uid(&self.role, role.as_str()));
        let groups = memberships.groups.iter().map(|id| uid(&self.group, id));
        let app_roles = memberships.app_roles.iter().map(|name| uid(&self.app_role, name));
        let parents: HashSet<EntityUid> = roles.chain(groups).chain(app_roles).collect();
        let id = subject.user().to_string();
        let mut attributes = HashMap::from([
            ("id".to_owned(), text(&id)),
            ("role".to_owned(), text(role.as_str())),
            ("tenant".to_owned(), text(subject.tenant().as_str())),
        ]);
        if let Some(name) = subject.name() {
            attributes.insert("name".to_owned(), text(name));
        }
        Ok(Entity::new(uid(&self.user, id), attributes, parents)?)
    }

    /// The server, and what at it is meant, unless that is the server itself.
    fn things(&self, thing: &Thing<'_>) -> Result<(Entity, Option<Entity>), Wrong> {
        let slug = thing.place.slug;
        let of_server = uid(&self.server, slug);
        let tags = thing.place.tags.iter().map(|tag| text(tag));
        let attributes = HashMap::from([("slug".to_owned(), text(slug)), ("tags".to_owned(), Value::new_set(tags))]);
        let server = Entity::new(of_server.clone(), attributes, HashSet::new())?;
        let name = thing.what.name();
        let (kind, called) = match thing.what {
            What::Server => return Ok((server, None)),
            What::Tool(..) => (&self.tool, "name"),
            What::Resource(_) => (&self.resource, "uri"),
            What::Prompt(_) => (&self.prompt, "name"),
        };
        let mut attributes = HashMap::from([
            (called.to_owned(), text(name)),
            ("server".to_owned(), Value::new_entity_uid(of_server.clone())),
        ]);
        if let Some(hints) = thing.what.hints() {
            for (hint, value) in [
                ("readOnlyHint", hints.read_only_hint),
                ("destructiveHint", hints.destructive_hint),
                ("idempotentHint", hints.idempotent_hint),
                ("openWorldHint", hints.open_world_hint),
            ] {
                attributes.insert(hint.to_owned(), Value::new_bool(value));
            }
        }
        let own = Entity::new(uid(kind, [slug, "/", name].concat()), attributes, HashSet::from([of_server]))?;
        Ok((server, Some(own)))
    }
}
