// The pages a person sees. They are plain forms, and say that this is a stand-in.
const escape = text => String(text).replace(/[&<>"']/g, character => `&#${character.charCodeAt(0)};`);
const STYLE = 'body{font:16px/1.5 system-ui,sans-serif;background:#f2f2f2;display:grid;place-items:center;min-height:100vh;margin:0}main{background:#fff;padding:2rem;width:22rem;box-shadow:0 2px 6px #0003}input,button{font:inherit;padding:.5rem;width:100%;box-sizing:border-box;margin:.3rem 0}button{background:#0067b8;color:#fff;border:0;cursor:pointer}button.alt{background:#ccc;color:#000}small{color:#555}';
const page = (title, body) => `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${title}</title><meta name="viewport" content="width=device-width"><style>${STYLE}</style></head><body><main>${body}</main></body></html>`;

export function loginPage(action, { hint = '', users = [], error = '', client = '' } = {}) {
  return page('Sign in (Entra stand-in)', `<h1>Sign in</h1><p><small>Stand-in for Microsoft Entra ID${client ? ` &middot; ${escape(client)}` : ''}</small></p>
${error ? `<p id="error" role="alert">${escape(error)}</p>` : ''}
<form method="post" action="${escape(action)}"><label>Account<input name="login" list="users" value="${escape(hint)}" autocomplete="username" required></label>
<datalist id="users">${users.map(user => `<option value="${escape(user.login ?? user.upn)}">${escape(user.name)}</option>`).join('')}</datalist>
<label>Password<input name="passwd" type="password" value="Passw0rd!" autocomplete="current-password" required></label>
<button type="submit" id="signin">Sign in</button></form>`);
}

export function consentPage(action, app, scopes) {
  return page('Permissions requested', `<h1>Permissions requested</h1><p>${escape(app.name)}</p><ul>${scopes.map(scope => `<li>${escape(scope)}</li>`).join('')}</ul>
<form method="post" action="${escape(action)}"><button name="consent" value="accept" id="accept">Accept</button><button class="alt" name="consent" value="cancel">Cancel</button></form>`);
}

export function errorPage(error) {
  return page('Sign in', `<h1>Sorry, but we&rsquo;re having trouble signing you in.</h1><p id="aadsts">${escape(error.describe())}</p>`);
}
