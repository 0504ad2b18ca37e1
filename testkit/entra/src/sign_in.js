// The forms: at an alias the account first, then the tenant's own sign-in and consent. Whether a form belongs to this browser and
// what happens after it is the engine's.
import { randomBytes } from 'node:crypto';
import { Aadsts } from './aadsts.js';
import { readForm, redirect, send } from './http.js';
import { consentPage, errorPage, loginPage } from './pages.js';
import { findApp, parseScope } from './scopes.js';

const WRONG_PASSWORD = 'AADSTS50126: Error validating credentials due to invalid username or password.';

/** The form of an alias: signs in, and carries on at the tenant of the account. */
export async function homeRealmForm(entra, request, response, url) {
  const form = await readForm(request);
  const user = entra.userByLogin(form.login);
  if (!user || user.password !== form.passwd) return send(response, 200, loginPage(url.pathname + url.search, { error: WRONG_PASSWORD, hint: form.login }));
  const ticket = randomBytes(16).toString('hex');
  entra.tickets.set(ticket, { oid: user.oid, tid: user.tid });
  const to = new URL(`${entra.base}/${user.tid}/oauth2/v2.0/authorize${url.search}`);
  to.searchParams.set('sim_ticket', ticket);
  return redirect(response, to.pathname + to.search);
}

/** The page of one interaction of the engine, shown or answered. */
export async function interaction(entra, request, response, tid, path) {
  const engine = entra.engines[tid];
  let details;
  try {
    details = await engine.interactionDetails(request, response);
  } catch (error) {
    return send(response, 400, errorPage(new Aadsts(9002313, { detail: `This sign-in is not bound to this browser: ${error.message}` })));
  }
  const one = {
    entra, engine, request, response, tid, details,
    action: `/${tid}${path}`,
    app: findApp(entra.state, tid, details.params.client_id),
    done: result => engine.interactionFinished(request, response, result, { mergeWithLastSubmission: true }),
  };
  return details.prompt.name === 'consent' ? consent(one) : login(one);
}

async function login(one) {
  const { entra, request, response, tid, details, action, app } = one;
  const again = (hint, error) => send(response, 200, loginPage(action, { error, hint }));
  if (request.method === 'GET') {
    const { sim_ticket: key, login_hint: hint } = details.params;
    const ticket = entra.tickets.get(key);
    if (ticket?.tid === tid) {
      entra.tickets.delete(key);
      return signedIn(one, entra.userByOid(tid, ticket.oid));
    }
    const auto = entra.userByLogin(entra.state.autologin[tid], tid);
    if (auto) return signedIn(one, auto);
    return send(response, 200, loginPage(action, { hint, users: entra.state.users.filter(user => user.tid === tid), client: app?.name }));
  }
  const form = await readForm(request);
  const user = entra.userByLogin(form.login, tid);
  if (!user && entra.userByLogin(form.login)) return send(response, 200, errorPage(new Aadsts(50020)));
  return user && user.password === form.passwd ? signedIn(one, user) : again(form.login, WRONG_PASSWORD);
}

function signedIn({ response, details, done }, user) {
  if (user.disabled) return send(response, 200, errorPage(new Aadsts(50057)));
  let policies = [];
  try { policies = JSON.parse(details.params.sim_claims).access_token.polids.values ?? []; } catch { /* no claims were asked for */ }
  user.lastInteractive = Date.now();
  user.satisfiedPolicies.push(...policies);
  return done({ login: { accountId: user.oid, remember: true, amr: policies.length || user.mfaSince ? ['pwd', 'mfa'] : ['pwd'] }, select_account: {} });
}

async function consent({ entra, engine, request, response, tid, details, action, app, done }) {
  const abort = error => done({ error: error.oauth, error_description: `AADSTS${error.code}` });
  const wanted = Object.entries(details.prompt.details.missingResourceScopes ?? {})
    .flatMap(([identifier, scopes]) => scopes.map(full => ({ identifier, full, name: full.slice(identifier.length + 1) })));
  const resourceOf = ({ identifier, name }) => parseScope(entra.state, tid, undefined, `${identifier}/${name}`).resources.get(identifier)?.app;
  if (wanted.some(scope => resourceOf(scope)?.adminScopes?.includes(scope.name))) return abort(new Aadsts(90094));
  if (request.method === 'GET') return send(response, 200, consentPage(action, app, wanted.length ? wanted.map(scope => scope.full) : details.params.scope.split(' ')));
  const form = await readForm(request);
  if (form.consent !== 'accept') return abort(new Aadsts(65004));
  const { accountId } = details.session;
  const grant = (details.grantId && await engine.Grant.find(details.grantId)) || new engine.Grant({ accountId, clientId: app.appId });
  for (const scope of wanted) {
    grant.addResourceScope(scope.identifier, scope.full);
    entra.state.consent.push({ tid, client: app.appId, resource: resourceOf(scope).appId, scopes: [scope.name], user: accountId });
  }
  if (details.prompt.details.missingOIDCScope) grant.addOIDCScope(details.prompt.details.missingOIDCScope.join(' '));
  return done({ consent: { grantId: await grant.save() } });
}
