/** @type {import('tailwindcss').Config} */
module.exports = {
  content: ["./housing/templates/**/*.html", "./housing/forms.py"],
  theme: { extend: { fontFamily: { sans: ["Inter", "system-ui", "sans-serif"] } } },
};
