// The theme, before the first paint, hence no module: the system's unless the visitor chose another.
{
  const root = document.documentElement;
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const chosen = () => {
    try { return localStorage.getItem('brickwork-theme'); } catch { return null; }
  };
  const show = () => {
    const theme = root.dataset.theme ?? (dark.matches ? 'dark' : 'light');
    document.getElementById('theme-toggle')?.setAttribute('aria-pressed', String(theme === 'dark'));
    return theme;
  };
  if (['dark', 'light'].includes(chosen()))
    root.dataset.theme = chosen();
  dark.addEventListener('change', show);
  document.addEventListener('DOMContentLoaded', () => {
    show();
    document.getElementById('theme-toggle').addEventListener('click', () => {
      root.dataset.theme = show() === 'dark' ? 'light' : 'dark';
      try { localStorage.setItem('brickwork-theme', root.dataset.theme); } catch { /* this visit only */ }
      show();
    });
  });
}
