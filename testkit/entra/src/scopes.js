// Entra has no `resource` parameter of its own: the resource is the part of a scope before the last '/'.
// This turns an Entra scope string into what oidc-provider wants: plain OIDC scopes plus RFC 8707 resources.
import { Aadsts } from './aadsts.js';
import { GRAPH_APPID } from './directory.js';

const OIDC = new Set(['openid', 'profile', 'email', 'offline_access']);
export const OFFLINE = 'sim_offline'; // oidc-provider drops offline_access unless prompt=consent; Entra does not
const GUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export function findResource(state, tid, prefix) {
  const norm = prefix.replace(/\/$/, '').toLowerCase();
  return state.apps.find((a) => (a.multiTenant || a.homeTenant === tid)
    && (a.appId === norm || a.identifierUris.some((u) => u.toLowerCase() === norm)));
}

/** The application behind a resource identifier that the engine carries; a bare id wears `api://` there. */
export function resourceApp(state, tid, identifier) {
  return findResource(state, tid, identifier.replace(/^api:\/\/(?=[0-9a-f-]{36}$)/i, '')) ?? findResource(state, tid, identifier);
}

/** What the engine must know of a resource; none when nobody answers to the identifier. */
export function resourceServer(entra, tid, identifier) {
  const app = resourceApp(entra.state, tid, identifier);
  return app && {
    scope: [...app.scopes, '.default'].map(name => `${identifier}/${name}`).join(' '),
    audience: app.accessTokenVersion === 2 ? app.appId : identifier,
    accessTokenFormat: 'jwt',
    jwt: { sign: { alg: 'RS256', kid: entra.activeKid(tid) } },
  };
}

/** The resources that full scopes name: none, one, or a list. */
export function resourcesOf(scope) {
  const found = [...new Set((scope ?? '').split(' ').filter(name => name.includes('/')).map(name => name.slice(0, name.lastIndexOf('/'))))];
  return found.length > 1 ? found : found[0];
}

export function findApp(state, tid, appId) {
  return state.apps.find((a) => a.appId === appId && (a.multiTenant || a.homeTenant === tid));
}

export function consented(state, tid, clientId, resourceId, oid) {
  const out = new Set();
  for (const c of state.consent) {
    if (c.tid === tid && c.client === clientId && c.resource === resourceId && (c.user === null || c.user === oid)) {
      c.scopes.forEach((s) => out.add(s));
    }
  }
  return out;
}

/** Gives { oidc: [...], resources: Map of identifier to { app, aud, names: Set, dotDefault } }. */
export function parseScope(state, tid, client, scope) {
  const oidc = [];
  const resources = new Map();
  for (const s of (scope ?? '').split(' ').filter(Boolean)) {
    if (OIDC.has(s)) {
      oidc.push(s === 'offline_access' ? OFFLINE : s);
      continue;
    }
    const cut = s.lastIndexOf('/');
    const prefix = cut === -1 ? 'https://graph.microsoft.com' : s.slice(0, cut);
    const name = cut === -1 ? s : s.slice(cut + 1);
    const app = findResource(state, tid, prefix);
    if (!app) {
      throw new Aadsts(500011, { detail: `The resource principal named ${prefix} was not found in the tenant named ${state.tenants[tid]?.name}.` });
    }
    if (app.appId === client?.appId && !prefix.toLowerCase().includes(app.appId)) throw new Aadsts(90009);
    if (name !== '.default' && !app.scopes.includes(name)) {
      throw new Aadsts(650053, {
        detail: `The application '${client?.name}' asked for scope '${name}' that doesn't exist on the resource '${app.appId}'.`,
      });
    }
    const identifier = GUID.test(prefix) ? `api://${prefix}` : prefix;
    const entry = resources.get(identifier) ?? { app, aud: prefix, names: new Set(), dotDefault: false };
    if (name === '.default') entry.dotDefault = true;
    else entry.names.add(name);
    resources.set(identifier, entry);
  }
  for (const r of resources.values()) {
    if (r.dotDefault && r.names.size) {
      throw new Aadsts(70011, { detail: `The provided value for the input parameter 'scope' is not valid. .default scope can't be combined with resource-specific scopes.` });
    }
  }
  if (!resources.size && oidc.length) {
    resources.set('https://graph.microsoft.com', {
      app: findApp(state, tid, GRAPH_APPID), aud: 'https://graph.microsoft.com', names: new Set(['User.Read']), dotDefault: false,
    });
  }
  return { oidc, resources };
}

/** Full scope strings (`api://x/read`) for one parsed resource; `.default` means everything already consented. */
export function fullScopes(state, tid, clientId, identifier, entry, oid) {
  if (!entry.dotDefault) return [...entry.names].map((n) => `${identifier}/${n}`);
  const names = [...consented(state, tid, clientId, entry.app.appId, oid)];
  return [...names.map((n) => `${identifier}/${n}`), `${identifier}/.default`];
}

/** The RFC 8707 parameter as Entra treats it: since March 2026 it must name the same resource as the scopes. */
export function checkResourceParam(state, tid, resource, parsed) {
  if (resource === undefined) return;
  if (state.config.resourceParam === 'reject') throw new Aadsts(901002);
  const values = Array.isArray(resource) ? resource : [resource];
  const real = [...parsed.resources.entries()];
  for (const v of values) {
    const ok = real.some(([id, r]) => r.aud === v || id === v || r.app.identifierUris.includes(v));
    if (!ok) throw new Aadsts(9010010);
  }
}
