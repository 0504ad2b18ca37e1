// What the stand-in knows: the directory, signing keys, what was issued, and what was asked of it. One oidc-provider per tenant
// works on it; swapping that engine is how keys rotate, and what it stored lives here, so codes and tokens survive.
import { randomBytes } from 'node:crypto';
import { seed } from './directory.js';
import { newKey } from './keys.js';
import { wording } from './aadsts.js';
import { createEngine } from './engine.js';

export class Entra {
  /** `base` is what issuers and endpoints are called; `redirectUris` are the gateway's, beside those of the directory. */
  constructor(base, { redirectUris = [] } = {}) {
    this.base = base;
    this.redirectUris = redirectUris;
    this.cookieKey = randomBytes(32).toString('hex');
    this.reset();
  }

  /** Everything as at the start, with new signing keys. */
  reset() {
    this.state = seed({ redirectUris: this.redirectUris });
    wording.uiRequiredError = this.state.config.uiRequiredError;
    this.stores = new Map(); // tid → what the engine keeps
    this.keys = {}; // tid → [{ jwk, signing }]
    this.engines = {};
    this.callbacks = {};
    this.grantExtras = new Map(); // grant → what a claims request asked to be remembered
    this.graphNonces = new Map();
    this.tickets = new Map(); // a sign-in at `organizations`, carried to the tenant found
    this.faults = [];
    this.log = [];
    this.given = []; // what the token endpoint gave of late
    for (const tid of this.tenantIds()) {
      this.keys[tid] = [{ jwk: newKey(), signing: true }, { jwk: newKey(), signing: false }];
      this.rebuild(tid);
    }
  }

  rebuild(tid) {
    const keys = [...this.keys[tid]].sort((a, b) => b.signing - a.signing).map(key => key.jwk);
    this.engines[tid] = createEngine(this, tid, { keys });
    this.callbacks[tid] = this.engines[tid].callback();
  }

  // ---- keys

  activeKey(tid) { return this.keys[tid].find(key => key.signing).jwk; }
  activeKid(tid) { return this.activeKey(tid).kid; }

  rotate(tid, mode = 'activate') {
    const list = this.keys[tid];
    switch (mode) {
      case 'publish': list.push({ jwk: newKey(), signing: false }); break; // visible before it signs
      case 'activate': // sign with the newest published one, the old stay visible
        if (list.every((key, at) => key.signing || at === 0)) list.push({ jwk: newKey(), signing: false });
        list.forEach(key => { key.signing = false; });
        list.at(-1).signing = true;
        break;
      case 'retire': this.keys[tid] = list.filter(key => key.signing); break; // drop what does not sign
      case 'emergency': this.keys[tid] = [{ jwk: newKey(), signing: true }]; break; // everything replaced at once
      default: throw new Error(`unknown mode ${mode}`);
    }
    this.rebuild(tid);
    return this.keys[tid].map(key => ({ kid: key.jwk.kid, signing: key.signing }));
  }

  /** The published keys as Entra shows them: no `alg`, and at v2.0 the issuer that each may sign for. */
  publicJwks(tid, { v2 = true, issuer } = {}) {
    return {
      keys: this.keys[tid].map(({ jwk }) => ({
        kty: 'RSA', use: 'sig', kid: jwk.kid, x5t: jwk.kid, n: jwk.n, e: jwk.e, x5c: jwk.x5c,
        ...(v2 ? { cloud_instance_name: 'microsoftonline.com', issuer: issuer ?? this.issuerV2(tid) } : {}),
      })),
    };
  }

  /** The keys of all tenants, as `common` and `organizations` publish them: with the template of an issuer. */
  allJwks() {
    const seen = new Map();
    for (const tid of this.tenantIds()) for (const key of this.publicJwks(tid, { issuer: `${this.base}/{tenantid}/v2.0` }).keys) seen.set(key.kid, key);
    return { keys: [...seen.values()] };
  }

  issuerV2(tid) { return `${this.base}/${tid}/v2.0`; }
  issuerV1(tid) { return `${this.base}/sts/${tid}/`; } // stands for https://sts.windows.net/{tid}/

  // ---- directory and stores

  tenantIds() { return Object.keys(this.state.tenants); }

  /** The tenant that a path segment names, by id or domain; none for `organizations` and its like. */
  tenantFor(segment) {
    const name = segment.toLowerCase();
    return Object.values(this.state.tenants).find(tenant => tenant.id === name || tenant.domain === name)?.id;
  }

  userByOid(tid, oid) { return this.state.users.find(user => user.tid === tid && user.oid === oid); }

  userByLogin(login, tid) {
    const name = (login ?? '').toLowerCase();
    return this.state.users.find(user => (!tid || user.tid === tid) && [user.upn, user.login].some(own => own?.toLowerCase() === name));
  }

  store(tid) {
    if (!this.stores.has(tid)) this.stores.set(tid, Object.assign(new Map(), { tid }));
    return this.stores.get(tid);
  }
}
