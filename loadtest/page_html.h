// page.html, which CMake turns into a string.
#ifndef NIBBLE_LOADTEST_PAGE_HTML_H_
#define NIBBLE_LOADTEST_PAGE_HTML_H_

namespace nibble::loadtest {

extern const char* const kPageHtml;

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_PAGE_HTML_H_
