// The authorization endpoint before the engine: Entra's own checks and errors, the scopes turned into resources, and at an alias
// (`organizations`, `common`) the question whose tenant this is.
import { Aadsts } from './aadsts.js';
import { current } from './current.js';
import { redirect, send } from './http.js';
import { errorPage, loginPage } from './pages.js';
import { checkResourceParam, findApp, fullScopes, parseScope } from './scopes.js';
import { ALIASES, addError } from './wording.js';

const withoutPort = text => { const url = new URL(text); url.port = ''; return url.href; };
const matches = (registered, given) => registered === given || (/^http:\/\/(localhost|127\.0\.0\.1)/.test(registered) && URL.canParse(given) && withoutPort(registered) === withoutPort(given));

/** The audience as each resource was asked for: by id or by URI. */
export const audiences = parsed => Object.fromEntries([...parsed.resources].map(([identifier, resource]) => [identifier, resource.aud]));

/** Hands a request to a tenant's engine, its path without the tenant, as an application mounted there would see it. */
export function handToEngine(entra, request, response, tid, path, facts = {}) {
  request.originalUrl = `/${tid}${path}`;
  request.url = path;
  return current.run(facts, () => entra.callbacks[tid](request, response));
}

export async function authorize(entra, request, response, segment, tid, url) {
  const params = Object.fromEntries(url.searchParams);
  const resources = url.searchParams.getAll('resource');
  const anyTid = tid ?? entra.tenantIds()[0];
  const app = findApp(entra.state, anyTid, params.client_id);
  const redirectIsKnown = Boolean(app && params.redirect_uri && (app.redirectUris ?? []).some(uri => matches(uri, params.redirect_uri)));
  const fail = error => {
    response.simAadsts = error.code;
    if (!redirectIsKnown) return send(response, 400, errorPage(error));
    const to = new URL(params.redirect_uri);
    addError(entra, to, error);
    if (params.state !== undefined) to.searchParams.set('state', params.state);
    return redirect(response, to.href);
  };
  if (!params.client_id) return fail(new Aadsts(900144, { detail: "The request body must contain the following parameter: 'client_id'." }));
  if (!app) return fail(new Aadsts(700016, { detail: `Application with identifier '${params.client_id}' was not found in the directory.` }));
  if (!redirectIsKnown) return fail(new Aadsts(50011, { detail: `The redirect URI '${params.redirect_uri}' specified in the request does not match the redirect URIs configured for the application '${app.appId}'.` }));
  if (!tid && !app.multiTenant) return fail(new Aadsts(50194));

  let parsed;
  try {
    parsed = parseScope(entra.state, anyTid, app, params.scope);
    checkResourceParam(entra.state, anyTid, resources.length ? resources : undefined, parsed);
  } catch (error) {
    if (error instanceof Aadsts) return fail(error);
    throw error;
  }
  if (ALIASES.includes(segment)) return homeRealm(entra, response, segment, url, params, app);
  if (params.code_challenge && !params.code_challenge_method) return fail(new Aadsts(9002313, { detail: 'plain PKCE is not imitated here: send code_challenge_method=S256.' }));

  const scopes = [...parsed.oidc];
  for (const [identifier, entry] of parsed.resources) scopes.push(...fullScopes(entra.state, tid, app.appId, identifier, entry));
  const out = new URL(url);
  out.searchParams.set('scope', scopes.join(' '));
  out.searchParams.delete('resource');
  if (params.claims) { out.searchParams.delete('claims'); out.searchParams.set('sim_claims', params.claims); }
  return handToEngine(entra, request, response, tid, out.pathname.replace(/^\/[^/]+/, '') + out.search, { audAsRequested: audiences(parsed) });
}

function homeRealm(entra, response, segment, url, params, app) {
  const auto = Object.values(entra.state.autologin)[0];
  const who = params.sim_ticket ? undefined : entra.userByLogin(params.login_hint ?? auto);
  if (!who) return send(response, 200, loginPage(`/${segment}/hrd${url.search}`, { users: entra.state.users.filter(user => !user.guest), client: app.name }));
  const hint = url.searchParams.has('login_hint') ? '' : `&login_hint=${encodeURIComponent(who.login ?? who.upn)}`;
  return redirect(response, `/${who.tid}/oauth2/v2.0/authorize${url.search}${hint}`);
}
