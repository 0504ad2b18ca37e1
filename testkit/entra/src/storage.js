// Where oidc-provider keeps what it issues: maps in memory. `consume` is where Entra's rule for refresh tokens lives: using one
// does not invalidate it.
import { clientMetadata } from './clients.js';
import { current } from './current.js';

export class Storage {
  constructor(entra, tid, model) {
    this.entra = entra;
    this.model = model;
    this.store = entra.store(tid);
  }

  key(id) { return `${this.model}:${id}`; }

  async upsert(id, payload) {
    const before = this.store.get(this.key(id));
    if (this.model === 'AuthorizationCode' && !before) payload.authTime -= this.entra.state.config.authAgeSeconds;
    this.store.set(this.key(id), { ...payload, simIssuedMs: before?.simIssuedMs ?? Date.now() });
    if (payload.uid) this.store.set(`uid:${payload.uid}`, id);
    if (payload.grantId) {
      const grant = `grant:${payload.grantId}`;
      this.store.set(grant, (this.store.get(grant) ?? new Set()).add(this.key(id)));
    }
  }

  async find(id) {
    if (this.model === 'Client') return clientMetadata(this.entra, this.store.tid, id, current.getStore());
    return this.store.get(this.key(id));
  }

  async findByUid(uid) { return this.store.get(this.key(this.store.get(`uid:${uid}`))); }

  async findByUserCode() { return undefined; }

  async consume(id) {
    if (this.model === 'RefreshToken' && this.entra.state.config.rotation === 'entra') return;
    const value = this.store.get(this.key(id));
    if (value) value.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) { this.store.delete(this.key(id)); }

  async revokeByGrantId(grantId) {
    for (const key of this.store.get(`grant:${grantId}`) ?? []) this.store.delete(key);
  }
}
