//! A path, its calls, and what is said of each.

use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::Method;

use super::taken::{Taken, nothing_else};
use super::{Gives, Schemas, Takes, Told};
use crate::access::Role;
use crate::app::App;
use crate::web::idempotent::once;

/// One path with all that it takes.
#[derive(Debug)]
pub struct Route {
    /// Below the surface's base.
    pub path: &'static str,
    /// Under which heading it is described.
    pub heading: &'static str,
    /// Its calls.
    pub calls: Vec<Call>,
}

/// One call.
#[derive(Debug)]
pub struct Call {
    /// Its method.
    pub method: Method,
    /// Its name, for good: programs are generated from it.
    pub id: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// Says what its types say.
    told: fn(&mut Told, &mut Schemas),
    /// The least role, where it takes a greater one than its types say.
    pub role: Option<Role>,
    /// Further statuses of problems.
    pub fails: &'static [u16],
    answers: MethodRouter<App>,
}

/// A handler of which is known what it takes and gives.
pub trait Described<T>: Handler<T, App> {
    /// Says it.
    fn describe(told: &mut Told, schemas: &mut Schemas);
}

macro_rules! described {
    ($($taken:ident)*) => {
        impl<F, Answer, Given, Mode, $($taken),*> Described<(Mode, $($taken,)*)> for F
        where
            F: Handler<(Mode, $($taken,)*), App> + Fn($($taken),*) -> Answer,
            Answer: Future<Output = Given>,
            Given: Gives,
            $($taken: Takes,)*
        {
            fn describe(told: &mut Told, schemas: &mut Schemas) {
                $($taken::describe(told, schemas);)*
                Given::describe(told, schemas);
            }
        }
    };
}

described!(A);
described!(A B);
described!(A B C);
described!(A B C D);
described!(A B C D E);
described!(A B C D E F_);

/// A path under this heading, with what it takes.
pub fn at<const N: usize>(heading: &'static str, path: &'static str, calls: [Call; N]) -> Route {
    Route { path, heading, calls: calls.into() }
}

impl Route {
    /// What answers.
    pub fn answers(self, app: &App) -> MethodRouter<App> {
        let mut schemas = Schemas::default();
        self.calls.into_iter().fold(MethodRouter::new(), |all, call| all.merge(call.guarded(app, &mut schemas)))
    }
}

impl Call {
    /// What is said of it.
    pub(super) fn told(&self, schemas: &mut Schemas) -> Told {
        let mut told = Told::default();
        (self.told)(&mut told, schemas);
        if let Some(role) = self.role {
            told.let_in(role);
        }
        told
    }

    /// Whether it can be asked for with an `Idempotency-Key`: others are done once by what they are, or nobody is asked who calls.
    pub(super) fn takes_key(&self, told: &Told) -> bool {
        self.method == Method::POST && told.role.is_some()
    }

    /// What answers, behind what its description promises.
    fn guarded(self, app: &App, schemas: &mut Schemas) -> MethodRouter<App> {
        if self.method == Method::GET {
            return self.answers;
        }
        let told = self.told(schemas);
        let answers = match told.role.filter(|_| self.takes_key(&told)) {
            Some(role) => self.answers.route_layer(from_fn_with_state((app.clone(), role), once)),
            None => self.answers,
        };
        answers.route_layer(from_fn_with_state(Taken::of(&told), nothing_else))
    }

    /// The same for this role at least, where what it is about decides and not a type.
    #[must_use]
    pub fn needs(self, role: Role) -> Self {
        Self { role: Some(role), ..self }
    }

    /// The same, which may fail with these statuses too.
    #[must_use]
    pub fn may_fail(self, fails: &'static [u16]) -> Self {
        Self { fails, ..self }
    }
}

macro_rules! methods {
    ($($name:ident $filter:ident)*) => {
        $(
            /// A call of this method, with its name and what it does.
            pub fn $name<H: Described<T>, T: 'static>(id: &'static str, summary: &'static str, handler: H) -> Call {
                let answers = on(MethodFilter::$filter, handler);
                Call { method: Method::$filter, id, summary, told: H::describe, role: None, fails: &[], answers }
            }
        )*
    };
}

methods!(get GET post POST put PUT patch PATCH delete DELETE);
