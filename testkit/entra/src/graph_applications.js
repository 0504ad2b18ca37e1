// What Graph tells of registrations: the application, its principal in the tenant, and consent. Only to applications that may read
// it; a control gives the permission: PATCH /_sim/apps/{id} {"appRoleAssignments": {graph: ["Application.Read.All"]}}.
import { findApp } from './scopes.js';

const DAY = 864e5;
const ends = secret => secret.endDateTime ?? new Date(Date.now() + (secret.expired ? -DAY : 180 * DAY)).toISOString();

/** The answer, `{ refused }` without the permission, or nothing where the path is another. */
export function registered(entra, tid, roles, path, url) {
  const [, kind, appId] = path.match(/^\/v1\.0\/(applications|servicePrincipals)\(appId='([^']+)'\)$/) ?? [];
  if (kind) {
    const app = findApp(entra.state, tid, appId);
    if (!roles.has('Application.Read.All') || !app) return { refused: true };
    return kind === 'applications' ? application(app) : { id: app.spOid, appId: app.appId, displayName: app.name };
  }
  if (path !== '/v1.0/oauth2PermissionGrants') return undefined;
  if (!roles.has('DelegatedPermissionGrant.Read.All')) return { refused: true };
  const client = url.searchParams.get('$filter')?.match(/clientId eq '([^']+)'/)?.[1];
  const all = entra.state.consent.filter(one => one.tid === tid).map(one => ({
    clientId: findApp(entra.state, tid, one.client)?.spOid,
    consentType: one.user ? 'Principal' : 'AllPrincipals',
    principalId: one.user,
    resourceId: findApp(entra.state, tid, one.resource)?.spOid,
    scope: one.scopes.join(' '),
  }));
  return { value: all.filter(one => one.clientId === client) };
}

function application(app) {
  const uris = app.redirectUris ?? [];
  return {
    id: app.appId.replace(/^./, 'a'),
    appId: app.appId,
    displayName: app.name,
    identifierUris: app.identifierUris,
    passwordCredentials: (app.secrets ?? []).map((secret, at) => ({ displayName: `secret ${at + 1}`, hint: secret.value.slice(0, 3), secretText: null, endDateTime: ends(secret) })),
    web: { redirectUris: app.public ? [] : uris },
    spa: { redirectUris: app.spaRedirectUris ?? [] },
    publicClient: { redirectUris: app.public ? uris : [] },
    api: {
      requestedAccessTokenVersion: app.accessTokenVersion === 2 ? 2 : null,
      oauth2PermissionScopes: app.scopes.map(value => ({ value, isEnabled: true, type: app.adminScopes?.includes(value) ? 'Admin' : 'User' })),
    },
  };
}
