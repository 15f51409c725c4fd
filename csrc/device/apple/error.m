// What the framework said, or did not say, as an ane_error.
#import "apple.h"

const char *ane_text(NSString *string) {
  const char *text = [string UTF8String];
  return text ? text : "";
}

ane_status ane_fail_nil(ane_error *error, ane_status status, const char *doing) {
  return ane_fail(error, status, "%s gave nil and no reason", doing);
}

ane_status ane_fail_cause(ane_error *error, ane_status status, const char *doing, NSError *cause) {
  if (!cause) return ane_fail(error, status, "%s answered NO without an NSError: the framework gave no reason", doing);
  NSString *reason = [cause localizedFailureReason];
  NSError *below = [[cause userInfo] objectForKey:NSUnderlyingErrorKey];
  return ane_fail_as(error, status, ane_text([cause domain]), [cause code], ane_text([cause localizedDescription]),
                     "%s failed%s%s%s%s", doing, reason ? ": " : "", ane_text(reason), below ? "; below it: " : "",
                     ane_text([below description]));
}

ane_status ane_fail_exception(ane_error *error, ane_status status, const char *doing, id exception) {
  if (![exception isKindOfClass:[NSException class]])
    return ane_fail(error, status, "%s threw an object of class %s", doing,
                    ane_text(NSStringFromClass([exception class])));
  return ane_fail_as(error, status, ane_text([exception name]), 0, ane_text([exception reason]), "%s threw %s: %s",
                     doing, ane_text([exception name]), ane_text([exception reason]));
}
